-- Mirrors follow all runs that have not ended: those that are being ended, too. Nothing of a run that goes on is in it, nor moves
-- through it.

create index run_ending on cnstra.run (run_id) where finished_at is null and ending is not null;   -- sight
