"""The review application: people look at a run's boxes in a browser, judge them and put them right.

run_index(run)        the boxes and images of a run as arrays; places of a box at other thresholds
other_run             another run of the same images, to be compared with
near_duplicates       photos of which one stands for several, searched for in the background
queues, orders        which boxes and images there are to look at, in which order
session(run)          verdicts, undo, leases, agreement: what the browser asks for
reviews               the runs of one application: one, or those of a label store
application(reviews)  the same over HTTP, on loopback, with the checks of access
pictures, maps        photos in the size that the browser needs, kept in a cache of limited size; activation maps
assets/               the page: HTML, CSS and JavaScript modules, without a build step
"""
