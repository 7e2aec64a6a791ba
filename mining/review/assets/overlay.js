// The boxes on the photo: drawn in the image's own pixels, moved by the corners, or drawn new.

const NAMESPACE = "http://www.w3.org/2000/svg";
const GRAB_PX = 12;

export class Overlay {
  constructor(svg, onChange, onDrawn) {
    this.svg = svg;
    this.onChange = onChange;
    this.onDrawn = onDrawn;
    this.image = null;
    this.own = null;
    this.others = [];
    this.drawing = false;
    this.drag = null;
    svg.addEventListener("pointerdown", (event) => this.start(event));
    svg.addEventListener("pointermove", (event) => this.move(event));
    svg.addEventListener("pointerup", (event) => this.end(event));
    svg.addEventListener("pointercancel", () => { this.drag = null; this.paint(); });
  }

  show(image, own, others) {
    this.image = image;
    this.own = own && [...own];
    this.others = others;
    this.drag = null;
    this.svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.paint();
  }

  setDrawing(drawing) {
    this.drawing = drawing;
    this.svg.classList.toggle("drawing", drawing);
  }

  paint() {
    this.svg.replaceChildren();
    if (!this.image) return;
    for (const { box, kind } of this.others) this.rect(box, `box ${kind}`);
    const shown = this.drag?.box ?? this.own;
    if (!shown) return;
    this.rect(shown, "halo");
    this.rect(shown, this.drawing ? "box missed" : "box own");
    if (this.drawing) return;
    const side = 5 * this.scale();
    for (const [x, y] of corners(shown)) this.rect([x - side, y - side, 2 * side, 2 * side], "handle");
  }

  rect([x, y, w, h], kind) {
    const one = document.createElementNS(NAMESPACE, "rect");
    for (const [name, value] of Object.entries({ x, y, width: Math.max(0, w), height: Math.max(0, h) })) one.setAttribute(name, value);
    one.setAttribute("class", kind);
    this.svg.append(one);
  }

  scale() {
    return this.image.width / Math.max(1, this.svg.getBoundingClientRect().width);
  }

  place(event) {
    const frame = this.svg.getBoundingClientRect();
    const limit = (value, most) => Math.min(Math.max(value, 0), most);
    return [
      limit(((event.clientX - frame.left) / frame.width) * this.image.width, this.image.width),
      limit(((event.clientY - frame.top) / frame.height) * this.image.height, this.image.height),
    ];
  }

  start(event) {
    if (!this.image) return;
    const at = this.place(event);
    if (this.drawing) this.drag = { fixed: at, box: null };
    else if (this.own) {
      const near = GRAB_PX * this.scale();
      const all = corners(this.own);
      const corner = all.findIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) <= near);
      if (corner < 0) return;
      this.drag = { fixed: all[3 - corner], box: [...this.own] };
    } else return;
    this.svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  move(event) {
    if (!this.drag) return;
    this.drag.box = between(this.drag.fixed, this.place(event));
    this.paint();
  }

  end(event) {
    if (!this.drag) return;
    const box = between(this.drag.fixed, this.place(event));
    const wasDrawing = this.drawing;
    this.drag = null;
    if (box[2] >= 1 && box[3] >= 1) {
      if (wasDrawing) this.onDrawn(box);
      else { this.own = box; this.onChange(box); }
    }
    this.paint();
  }
}

function corners([x, y, w, h]) {
  return [[x, y], [x + w, y], [x, y + h], [x + w, y + h]];
}

function between([ax, ay], [bx, by]) {
  const box = [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];
  return box.map((value) => Math.round(value * 100) / 100);
}

// IoU of two boxes as x, y, width, height.
export function iou(first, second) {
  const shared = (start, size) => Math.min(first[start] + first[size], second[start] + second[size]) - Math.max(first[start], second[start]);
  const inside = Math.max(0, shared(0, 2)) * Math.max(0, shared(1, 3));
  return inside / (first[2] * first[3] + second[2] * second[3] - inside);
}
