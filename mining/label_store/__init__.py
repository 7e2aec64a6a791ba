"""The label store: labels of a growing set of images, kept version by version.

A labelling job mines what is new, checks it against quality gates and publishes the next version.

    settings, schema, summaries, summary_text    the recipe, the columns, the results and their text
    delta_table, commit_log, data_files          the store: a Delta table whose versions are published atomically
    diff, changes, staleness                     what changed since the last version
    layout, publications, job, publish           folders and steps of a job
    version_rows, version_statistics             the rows of the next version and their counts
    quality_gates, version_corloc                whether they are good enough
    version_precision, verdict_steps             what people say about the new boxes, and what to do next
    corrected_runs, corrections                  boxes that people corrected, in the rows of the next version
    run_view, reading, sources, version_report   reading a version as if it were a run
    restore, cleanup, staged                     earlier versions, leftovers, versions that wait for a decision
"""
