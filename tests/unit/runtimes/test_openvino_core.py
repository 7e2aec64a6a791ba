"""OpenVINO in several threads of a fresh process."""

import subprocess
import sys

PROGRAM = """
import os, sys, threading
import numpy as np
from mining.runtimes.openvino_core import import_openvino, openvino_core
core, opset = openvino_core(), import_openvino().opset13
image = opset.parameter([-1, 3, -1, -1], np.uint8)
model = import_openvino().Model([opset.convert(image, "f32")], [image])
compiled = core.compile_model(model, "CPU", {"NUM_STREAMS": 2, "INFERENCE_NUM_THREADS": 2})
together = threading.Barrier(4)
sys.setswitchinterval(1e-6)

def compute(request):
    together.wait()
    request.infer([np.zeros((1, 3, 64, 64), np.uint8)], share_inputs=True, share_outputs=True)

threads = [threading.Thread(target=compute, args=(compiled.create_infer_request(),), daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(10)
os._exit(sum(thread.is_alive() for thread in threads))
"""


def test_threads_that_compute_for_the_first_time_at_once_do_not_wait_for_each_other_forever() -> None:
    """Without the computation that precedes it, two of three such processes hang."""
    for _ in range(4):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], check=False, timeout=60)
        assert done.returncode == 0, f"{done.returncode} threads hang"
