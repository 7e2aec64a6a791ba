"""The review application: people look at a run's boxes in a browser, judge them and put them right.

run_index(run)        the boxes and images of a run as arrays, and single ones as JSON values
queues                which box or image is shown next, and to whom
near_duplicates       photos of which one stands for several, searched for in the background
session(run)          verdicts, undo, leases: what the browser asks for
application(session)  the same over HTTP, on loopback, with the checks of access
pictures              photos in the size that the browser needs, kept in a cache of limited size
assets/               the page: one HTML, CSS and JavaScript file, without a build step
"""
