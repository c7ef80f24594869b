-- The statements around a handler that has the connection of its own hop (transaction=True).

-- name: begin_step
-- Begin its transaction, and mark it: by the worker, so that it can be ended when that is lost, and by the claim, so that
-- another transaction in its place is noticed. Takes no snapshot: the handler may still choose an isolation level.
begin isolation level read committed;
set local application_name = %(name)s;
set local cnstra.step = %(step)s

-- name: begin_settling
-- What the handler's own constraints say, they say now, under its own settings; and what settles can be undone for itself.
set constraints all immediate;
savepoint cnstra_settling

-- name: prepare_settling
-- Whether it still is that transaction; and from here on what the store's own statements need, whatever the handler has
-- set. A process that is stopped from here on holds the run's lock, so the server waits for it no longer than for others.
select coalesce(current_setting('cnstra.step', true), '') = %(step)s,
       set_config('role', 'none', true), set_config('search_path', 'pg_catalog', true),
       set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true),
       set_config('datestyle', 'ISO, MDY', true), set_config('intervalstyle', 'postgres', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
       set_config('idle_in_transaction_session_timeout', '3s', true)

-- name: undo_settling
-- Let go of the run, and of all that was settled; the handler's own statements stand.
rollback to savepoint cnstra_settling

-- name: clean_session
-- Nothing that a handler has set, opened or locked in its session is left for the next one.
close all;
set session authorization default;
reset all;
unlisten *;
discard temporary;
discard sequences;
select pg_advisory_unlock_all()

-- name: clean_pooled_session
-- The same before the commit, where the session is a pooler's, and somebody else's from then on. A process that is stopped here
-- holds the run's lock still.
INCLUDE(clean_session, x);
set local idle_in_transaction_session_timeout = '3s'

-- name: undo_step
-- Roll all of it back. What was set, opened or made is gone with it, but not a lock that the handler took in the session.
rollback;
select pg_advisory_unlock_all()

-- name: cut_off_steps
-- End the transactions of handlers whose worker has no lease any more: they can never commit, and hold locks that others
-- wait for.
select count(pg_terminate_backend(s.pid))
from pg_stat_activity s
where s.datname = current_database() and s.usename = current_user and starts_with(s.application_name, 'cnstra step ')
  and not exists (select from cnstra.worker w
                  where w.lost_at is null and s.application_name = 'cnstra step ' || w.worker)

-- name: cut_off_step
-- End the transaction of a handler whose connection leads nowhere. Behind a pooler the session has another number; that is the
-- pooler's connection then, and its business.
select count(pg_terminate_backend(s.pid))
from pg_stat_activity s
where s.pid = %(pid)s and s.datname = current_database() and s.usename = current_user and s.application_name = %(name)s
