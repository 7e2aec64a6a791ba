"""Labels that are kept, version by version: what a scheduled job finds new is mined, looked at and published.

settings    what a recipe says;  results: what a job gives back
table       the store: a Delta table, versions that appear whole or not at all
schema      its columns
ledger      what is listed against what is held;  freshness: whether labels are still what mining would give
places, comparing, job, publishing    a job's folders and its steps
rows        of a new version;  gates: whether it is good enough;  view: a version laid out as a run
"""
