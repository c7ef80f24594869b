-- Clones of runs, and runs that have not ended, to do something to many of them.

alter table cnstra.run
    add column deadline_after  interval,          -- the deadline, where it was given as a time from the submit: clones have it, too
    add column cloned_from     uuid;              -- the run whose entry signal this one repeats; it may have been pruned since

create index run_open on cnstra.run (run_id) where finished_at is null and ending is null;   -- open_runs
