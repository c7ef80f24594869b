-- The contract in SQL: what users, dashboards and alerts read. Columns only grow, at the
-- end. Laid over the old ones by every migration, so that grants on them, and views of users that rest on them, stay.

create or replace view cnstra.runs as
select r.run_id, r.graph, r.graph_version, r.status, r.attempt, r.entry_collateral, r.entry_payload,
       coalesce((
           select jsonb_agg(jsonb_build_object('collateral', o.signal -> 'collateral', 'payload', o.signal -> 'payload')
                            order by a.finish, o.place)
           from cnstra.activation a
           cross join lateral jsonb_array_elements(a.outputs) with ordinality o (signal, place)
           where a.run_id = r.run_id and a.status in ('done', 'cancelled') and not o.signal ? 'collected'), '[]') as outputs,
       r.error, r.error_type, r.context_version, r.outstanding, r.submitted_at,
       least(r.started_at, (select min(a.started_at) from cnstra.activation a where a.run_id = r.run_id)) as started_at,
       r.finished_at, r.next_retry_at, r.deadline_at, r.priority, r.tags, r.idempotency_key, r.gate, r.parent_run_id,
       case when r.finished_at is not null then null
            when exists (
                select from cnstra.activation a
                where a.run_id = r.run_id and a.status = 'ready'
                  and (a.blocked = 'unknown' or (coalesce(a.blocked, 'suspect') in ('suspect', 'limited') and not exists (
                          select from cnstra.worker w
                          where w.graph = a.graph and a.queue = any(w.queues) and a.pin in ('', w.graph_version)
                            and a.place = any(w.places)
                            and (a.blocked is null or a.neuron || chr(31) || a.collateral
                                     || case when a.undo then chr(31) || 'undo' else '' end = any(w.dendrites))
                            and w.lost_at is null and w.expires_at > clock_timestamp())))) then 'unknown'
            when exists (
                select from cnstra.activation a
                where a.run_id = r.run_id and a.status = 'ready' and a.blocked = 'limited'
                  and (select max((w.limits ->> a.neuron)::int)
                       from cnstra.worker w
                       where w.graph = a.graph and a.queue = any(w.queues) and a.pin in ('', w.graph_version)
                         and a.place = any(w.places) and a.neuron || chr(31) || a.collateral
                             || case when a.undo then chr(31) || 'undo' else '' end = any(w.dendrites)
                         and w.lost_at is null and w.expires_at > clock_timestamp())
                      <= (select count(*) from cnstra.activation o
                          where o.status = 'running' and o.limited and o.graph = a.graph and o.neuron = a.neuron)) then 'limited'
       end as blocked,
       r.context_place, r.ending, r.undo_error as compensation_error, r.undo_error_type as compensation_error_type,
       r.cloned_from
from cnstra.run r;

create or replace view cnstra.activations as
select a.run_id, a.activation_id, a.parent_activation_id, a.attempt, a.neuron, a.dendrite, a.collateral, a.payload,
       coalesce((
           select jsonb_agg(jsonb_build_object('collateral', s.collateral, 'payload', s.payload) order by s.ordinal, s.place)
           from ((select distinct on (c.ordinal, c.path) c.ordinal, c.activation_id as place,
                         to_jsonb(c.collateral) as collateral, c.payload
                  from (select * from cnstra.activation
                        where run_id = a.run_id and activation_id = a.activation_id + 1 and parent_activation_id = a.activation_id
                        union all
                        select * from cnstra.activation
                        where run_id = a.run_id and parent_activation_id = a.activation_id
                          and parent_activation_id <> activation_id - 1) c
                  where c.origin = ''
                  order by c.ordinal, c.path, c.activation_id)
                 union all
                 select (o ->> 'ordinal')::integer, 0, o -> 'collateral', o -> 'payload'
                 from jsonb_array_elements(a.outputs) o) s), '[]') as outputs,
       a.status, a.tries, a.epoch, a.queue,
       case when a.status not in ('ready', 'scheduled', 'waiting') then a.worker end as worker,
       a.error, a.error_type, a.created_at, a.available_at, a.started_at, a.finished_at,
       a.version_read as context_version_read, a.version_written as context_version_written, a.group_id, a.progress,
       a.undo, a.path[cardinality(a.path)] as member, a.gathers as gathers_group_id, a.handled
from cnstra.activation a;

create or replace view cnstra.tries as
select t.run_id, t.activation_id, t.try_number, t.worker, t.started_at, t.finished_at,
       t.error, t.error_type, t.error_traceback, t.undo
from cnstra.try t
union all
select a.run_id, a.activation_id, a.tries, a.worker, a.started_at, a.finished_at, null, null, null, a.undo
from cnstra.activation a
where a.status in ('running', 'done', 'compensated');

create or replace view cnstra.context as
select r.run_id, coalesce(h.version, 0) as version,
       case when r.context_place is not null then null
            when d.keys is not null then d.keys
            when d.whole is not null then d.whole
            when d.last_key > d.last_whole then '{}'::jsonb
       end as data,
       case when r.context_place is null then coalesce(d.local, '{}') end as local, h.updated_at,
       coalesce(h.expired_at, r.finished_at + (
           select make_interval(secs => min(extract(epoch from k.keep))::float8) from cnstra.retention k
           where k.what = r.status or k.what = 'context' and r.status <> 'failed')) as expires_at,
       not r.context_kept as expired
from cnstra.run r
left join cnstra.context_head h on h.run_id = r.run_id
left join lateral (
    select jsonb_object_agg(substr(e.slot, 3), e.value) filter (where e.slot like 's:%' and e.value is not null) as keys,
           jsonb_object_agg(substr(e.slot, 3), e.value) filter (where e.slot like 'l:%' and e.value is not null) as local,
           (array_agg(e.value) filter (where e.slot = 'w' and e.value is not null))[1] as whole,
           coalesce(max(e.version) filter (where e.slot like 's:%'), 0) as last_key,
           coalesce(max(e.version) filter (where e.slot = 'w'), 0) as last_whole
    from jsonb_each_text(h.heads) head (slot, version)
    join cnstra.context_entry e
      on e.run_id = h.run_id and e.version = abs(head.version::bigint) and e.slot = head.slot) d on true
union all
select f.context_id, f.version, f.data, null, f.updated_at, f.expires_at, false
from cnstra.free_context f
where (f.expires_at is null or f.expires_at > clock_timestamp())
  and not exists (select from cnstra.run r where r.run_id = f.context_id);

create or replace view cnstra.context_history as
select e.run_id, e.version, e.activation_id, a.neuron,
       case when r.context_place is not null then null
            when bool_or(e.slot = 'w' and e.value is not null) and not bool_or(e.slot like 's:%' and e.value is not null)
            then (array_agg(e.value) filter (where e.slot = 'w'))[1]
            else coalesce(jsonb_object_agg(substr(e.slot, 3), e.value)
                          filter (where e.slot like 's:%' and e.value is not null), '{}') end as written,
       coalesce(array_agg(substr(e.slot, 3) order by e.slot) filter (where e.slot like 's:%' and e.value is null), '{}')
           as removed,
       case when e.activation_id is null then e.outside_at
            when e.version = a.version_undone then a.finished_at
            else coalesce(a.done_at, a.finished_at) end as at,
       case when r.context_place is null then (array_agg(e.value) filter (where e.slot like 'l:%'))[1] end as local_written
from cnstra.context_entry e
join cnstra.run r on r.run_id = e.run_id
left join cnstra.activation a on a.run_id = e.run_id and a.activation_id = e.activation_id
group by e.run_id, e.version, e.activation_id, a.neuron, a.finished_at, a.done_at, a.version_undone, e.outside_at, r.context_place;

create or replace view cnstra.context_blobs as
select e.run_id, e.version, r.context_place, e.value #>> '{}' as key, array_agg(e.slot order by e.slot) as slots
from cnstra.run r
join cnstra.context_entry e on e.run_id = r.run_id
where r.context_place is not null and e.value is not null
group by e.run_id, e.version, r.context_place, e.value;

create or replace view cnstra.workers as
select w.worker, w.host, w.pid, array[w.graph] as graphs, w.queues, w.started_at, w.last_seen_at,
       (select count(*) from cnstra.activation a where a.worker = w.worker and a.status = 'running') as running
from cnstra.worker w
where w.lost_at is null;

create or replace view cnstra.graph_queue_depth as
select a.graph, a.queue,
       count(*) filter (where a.status = 'ready') as ready,
       count(*) filter (where a.status = 'running') as running,
       count(*) filter (where a.status = 'scheduled') as scheduled,
       clock_timestamp() - min(a.available_at) filter (where a.status = 'ready') as oldest_ready_age
from cnstra.activation a
where a.status in ('ready', 'running', 'scheduled')
group by a.graph, a.queue;

create or replace view cnstra.queue_depth as
select d.queue, sum(d.ready)::bigint as ready, sum(d.running)::bigint as running, sum(d.scheduled)::bigint as scheduled,
       max(d.oldest_ready_age) as oldest_ready_age
from cnstra.graph_queue_depth d
group by d.queue;

create or replace view cnstra.expectations as
select e.run_id, e.expectation_id, e.graph, e.collateral, e.key, e.expires_at, a.parent_activation_id as activation_id, p.neuron,
       e.activations as starts, a.created_at
from cnstra.expectation e
join cnstra.activation a on a.run_id = e.run_id and a.activation_id = e.expectation_id
left join cnstra.activation p on p.run_id = a.run_id and p.activation_id = a.parent_activation_id;

create or replace view cnstra.scatters as
select s.run_id, s.group_id, s.parent as parent_activation_id, s.collateral, s.size, s.most as member_limit, s.started, s.running,
       s.ended, (select count(*) from cnstra.member m
                 where m.run_id = s.run_id and m.group_id = s.group_id and m.failed > 0)::integer as failed,
       s.closed, array(select (g ->> 'activation_id')::integer from jsonb_array_elements(s.gathers) g) as gathers,
       s.path[cardinality(s.path) - 1] as parent_group_id, s.path[cardinality(s.path)] as parent_member
from cnstra.scatter s;
