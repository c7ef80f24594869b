-- What people ask when something is wrong: everything about one run, and how the whole is doing. Nothing in here writes.

-- == one run ==

-- name: tries_of_run
-- Every try of a run's activations, with what it raised.
select * from cnstra.tries where run_id = %(run_id)s order by activation_id, try_number

-- name: context_of_run
-- A run's context as it is.
select c.version, c.data, c.local, c.expires_at, c.expired, r.context_place
from cnstra.context c
join cnstra.runs r on r.run_id = c.run_id
where c.run_id = %(run_id)s

-- name: expectations_of_run
-- The signals from outside that a run waits for.
select * from cnstra.expectations where run_id = %(run_id)s order by expectation_id

-- name: scatters_of_run
-- How far a run's scatters are.
select * from cnstra.scatters where run_id = %(run_id)s order by group_id

-- == the whole ==

-- name: server_facts
-- What the server is, whether it only reads, and whether a commit is on disk when it says so.
select current_setting('server_version') as version, current_setting('server_version_num')::int as number,
       pg_is_in_recovery() as replica, current_setting('fsync') as fsync,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('full_page_writes') as full_page_writes, clock_timestamp() as now

-- name: own_role
-- Who asks, whether the schema is theirs, and of which groups with rights they are a member.
select current_user as name, pg_has_role(n.nspowner, 'usage') as owner,
       array(select distinct r.rolname::text
             from aclexplode(n.nspacl) g
             join pg_roles r on r.oid = g.grantee and r.oid <> n.nspowner and r.rolname <> current_user
             where pg_has_role(r.oid, 'usage')
             order by 1) as groups
from pg_namespace n
where n.nspname = 'cnstra'

-- name: prefixes_of_groups
-- What the names of the groups begin with that have rights: all three of them are there.
select regexp_replace(r.rolname, '_(worker|client|reader)$', '')
from pg_namespace n
cross join aclexplode(n.nspacl) g
join pg_roles r on r.oid = g.grantee
where n.nspname = 'cnstra' and g.privilege_type = 'USAGE' and r.rolname ~ '_(worker|client|reader)$' and not r.rolcanlogin
group by 1
having count(*) = 3

-- name: workers_by_graph
-- How many workers hold a lease, and when one was seen last.
select w.graph, count(*) filter (where w.expires_at >= CLOCK()) as alive, max(w.last_seen_at) as last_seen_at
from cnstra.worker w
where w.lost_at is null
group by w.graph
order by w.graph

-- name: supervisor_age
-- Seconds since somebody last supervised, or, where that is later, since the first worker of now came; null without both.
select extract(epoch from CLOCK() - greatest(s.until, w.since))::float8
from cnstra.supervisor s
cross join (select min(started_at) as since from cnstra.worker where lost_at is null) w
where s.until > '-infinity' or w.since is not null

-- name: backlog
-- What is ready, by graph and queue, and for how many seconds the oldest of it has been.
select a.graph, a.queue, count(*) as ready, extract(epoch from CLOCK() - min(a.available_at))::float8 as oldest
from cnstra.activation a
where a.status = 'ready' and (a.blocked is null or a.blocked = 'limited')
group by a.graph, a.queue
order by a.graph, a.queue

-- name: unknown_work
-- Work that no worker has the code for, or not the store of its context, and some runs that wait with it: what was set
-- aside, and what is pinned to a version, or lives in a place, that nobody has of those who serve its queue. A suspect, and
-- what has a limit, is never set aside, and is there, too.
select a.graph, a.neuron, a.collateral, a.pin, a.place, count(*) as activations,
       (array_agg(a.run_id order by a.run_id))[1:3] as runs
from cnstra.activation a
where a.blocked = 'unknown'
   or a.status = 'ready' and (a.blocked is null and (a.pin <> '' or a.place <> '') or a.blocked in ('suspect', 'limited'))
      and exists (select from cnstra.worker w
                  where w.graph = a.graph and a.queue = any(w.queues) and w.lost_at is null)
      and not exists (select from cnstra.worker w
                      where w.graph = a.graph and a.queue = any(w.queues) and w.lost_at is null
                        and a.pin in ('', w.graph_version) and a.place = any(w.places)
                        and (a.blocked is null or SKILL(a) = any(w.dendrites)))
group by a.graph, a.neuron, a.collateral, a.pin, a.place
order by a.graph, a.neuron, a.collateral

-- name: stranded_claims
-- Work that is running by a worker whose lease ran out a while ago, or is gone: nobody has taken it back.
select a.graph, count(*) as activations, (array_agg(a.run_id order by a.run_id))[1:3] as runs
from cnstra.activation a
left join cnstra.worker w on w.worker = a.worker
where a.status = 'running' and (w.worker is null or coalesce(w.lost_at, w.expires_at) < (select CLOCK()) - %(overdue)s::interval)
group by a.graph
order by a.graph

-- name: context_litter
-- Blobs that nobody refers to and nobody has deleted yet, by store, and for how many seconds the oldest has waited for that.
select l.place, count(*) as blobs, extract(epoch from CLOCK() - min(l.noted_at))::float8 as oldest
from cnstra.context_litter l
group by l.place
order by l.place

-- name: overdue_timers
-- Work whose time came a while ago, and that nobody has made ready.
select a.graph, count(*) as activations, (array_agg(a.run_id order by a.run_id))[1:3] as runs
from cnstra.activation a
where a.status = 'scheduled' and a.available_at < (select CLOCK()) - %(overdue)s::interval
group by a.graph
order by a.graph

-- name: overdue_attempts
-- Runs whose next attempt was due a while ago, and that nobody has begun.
select r.graph, count(*) as runs_overdue, (array_agg(r.run_id order by r.run_id))[1:3] as runs
from cnstra.run r
where r.next_retry_at < (select CLOCK()) - %(overdue)s::interval
group by r.graph
order by r.graph

-- name: overdue_deadlines
-- Runs whose deadline passed a while ago, and that nobody has ended; those that are paused wait for somebody.
select r.graph, count(*) as runs_overdue, (array_agg(r.run_id order by r.run_id))[1:3] as runs
from cnstra.run r
where r.deadline_at < (select CLOCK()) - %(overdue)s::interval and r.finished_at is null and r.ending is null and r.status <> 'paused'
group by r.graph
order by r.graph

-- name: poisoned_work
-- What failed because too many workers were lost with it, the most that were lost with one, and some runs of these.
select a.graph, a.neuron, a.collateral, a.undo, count(*) as activations, max(a.crashes) as lost,
       (array_agg(a.run_id order by a.run_id))[1:3] as runs
from cnstra.run r
join cnstra.activation a on a.run_id = r.run_id and a.status = 'failed' and a.error_type = 'cnstra.Poisoned'
where r.status = 'failed'
group by a.graph, a.neuron, a.collateral, a.undo
order by a.graph, a.neuron, a.collateral, a.undo
