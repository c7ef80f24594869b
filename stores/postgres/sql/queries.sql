-- Every statement that the store sends, each with a name and a sentence. CLOCK() is the store's clock: clock_timestamp()
-- in service, a function of the tests' where time is moved by hand. What is compared with it is so with ``(select CLOCK())``:
-- by itself it is asked anew for each row, so that no index can be read up to it. SKILL(a) is what a worker must know to run an
-- activation: its dendrite, or that dendrite's compensation. UNINDEXED(a.status) is a value in a form that no index has: what is looked up
-- by its key is not to read a partial index instead. DOOR(a) is where its doorbell is, CLAIMED(a) what is answered of a claim, FACTS(r) of its
-- run; FITS(r) is whether a run is among those that somebody has chosen. Arrays side by side, ``from unnest(a, b) n (x, y)``, are sent as a select list. INCLUDE(statement, prefix) is another statement as
-- a part of this one; ``ahead`` is nothing but a part.
-- NEEDS(n.payload) is what a payload needs of a worker that is to open it.

-- == submitting ==

-- name: take_keys
-- Take idempotency keys for new runs; a key that somebody has is left out of the answer.
insert into cnstra.submission_key (graph, key, run_id)
select k.graph, k.key, k.run_id
from unnest(%(graphs)s::text[], %(keys)s::text[], %(run_ids)s::uuid[]) k (graph, key, run_id)
order by k.graph, k.key
on conflict do nothing
returning run_id

-- name: runs_of_keys
-- The runs that hold these keys, and whether they were started by the same signal.
select k.run_id, s.run_id, r.entry_collateral = k.collateral and r.entry_payload = k.payload::jsonb
from unnest(%(graphs)s::text[], %(keys)s::text[], %(run_ids)s::uuid[], %(collaterals)s::text[], %(payloads)s::text[])
     k (graph, key, run_id, collateral, payload)
join cnstra.submission_key s on s.graph = k.graph and s.key = k.key
join cnstra.run r on r.run_id = s.run_id

-- name: insert_runs
-- Keep new runs; an id that is taken is left out of the answer.
insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                        last_activation, priority, policy, tags, idempotency_key, context_place, deadline_at, deadline_after,
                        cloned_from, submitted_at)
select n.run_id, n.graph, n.graph_version, n.pinned, n.collateral, n.payload::jsonb, n.status, n.outstanding, n.active,
       n.last_activation, n.priority, n.policy::jsonb, n.tags::jsonb, n.idempotency_key, n.place, n.deadline,
       n.deadline_after, n.cloned_from, coalesce(%(now)s::timestamptz, (select CLOCK()))
from unnest(%(run_ids)s::uuid[], %(graphs)s::text[], %(versions)s::text[], %(pinned)s::boolean[], %(collaterals)s::text[],
            %(payloads)s::text[], %(statuses)s::text[], %(outstanding)s::int[], %(active)s::int[],
            %(last_activations)s::int[], %(priorities)s::int[], %(policies)s::text[], %(tags)s::text[],
            %(idempotency_keys)s::text[], %(places)s::text[], %(deadlines)s::timestamptz[],
            %(deadlines_after)s::interval[], %(clones_of)s::uuid[])
     n (run_id, graph, graph_version, pinned, collateral, payload, status, outstanding, active, last_activation, priority,
        policy, tags, idempotency_key, place, deadline, deadline_after, cloned_from)
order by n.run_id
on conflict do nothing
returning run_id

-- name: insert_run
-- Keep one new run with its first activations; an id that is taken is left out of the answer, and nothing is kept. All of it comes as
-- one document, but for the payload, which may be large: as thirty parameters, each written, sent and read by itself, it takes an
-- eighth longer. An activation without a payload has the run's.
with given as (
    select *, %(payload)s::text as payload
    from json_to_record(%(run)s::json)
         as g (run_id uuid, graph text, version text, pinned boolean, collateral text, status text, outstanding int, active int,
               last_activation int, priority int, policy text, tags text, idempotency_key text, place text, deadline timestamptz,
               deadline_after interval, clone_of uuid, now timestamptz, begun_as text, available timestamptz, activations json)),
kept as (
    insert into cnstra.run (run_id, graph, graph_version, pinned, entry_collateral, entry_payload, status, outstanding, active,
                            last_activation, priority, policy, tags, idempotency_key, context_place, deadline_at, deadline_after,
                            cloned_from, submitted_at)
    select g.run_id, g.graph, g.version, g.pinned, g.collateral, g.payload::jsonb, g.status, g.outstanding, g.active,
           g.last_activation, g.priority, g.policy::jsonb, g.tags::jsonb, g.idempotency_key, g.place, g.deadline, g.deadline_after,
           g.clone_of, coalesce(g.now, CLOCK())
    from given g
    on conflict do nothing
    returning run_id, submitted_at),
begun as (
    insert into cnstra.activation (run_id, activation_id, ordinal, graph, pin, place, neuron, dendrite, collateral, payload, queue,
                                   priority, attempt, status, blocked, epoch, tries, created_at, available_at, compensable, origin,
                                   limited)
    select r.run_id, n.activation_id, n.ordinal, g.graph, case when g.pinned then g.version else '' end,
           coalesce(g.place, '') || NEEDS(p.payload), n.neuron, n.dendrite, n.collateral, p.payload::jsonb, n.queue, g.priority, 1,
           g.begun_as, n.blocked, 0, 0, r.submitted_at, coalesce(g.available, r.submitted_at), n.compensable, '', n.limited
    from kept r
    cross join given g
    cross join json_to_recordset(g.activations)
               as n (activation_id int, ordinal int, neuron text, dendrite text, collateral text, payload text, queue text,
                     blocked text, compensable text, limited boolean)
    cross join lateral (select coalesce(n.payload, g.payload)) as p (payload))
select run_id from kept

-- name: runs_of_ids
-- The runs that have these ids, and whether they were started by the same signal.
select r.run_id, r.run_id, r.graph = n.graph and r.entry_collateral = n.collateral and r.entry_payload = n.payload::jsonb
from unnest(%(run_ids)s::uuid[], %(graphs)s::text[], %(collaterals)s::text[], %(payloads)s::text[])
     n (run_id, graph, collateral, payload)
join cnstra.run r on r.run_id = n.run_id

-- name: entries_of_keys
-- The runs that hold these keys, and the signals that started them.
select k.key, s.run_id, r.entry_collateral, r.entry_payload::text
from unnest(%(graphs)s::text[], %(keys)s::text[]) k (graph, key)
join cnstra.submission_key s on s.graph = k.graph and s.key = k.key
join cnstra.run r on r.run_id = s.run_id

-- name: entries_of_ids
-- The signals that started these runs.
select r.run_id, r.entry_collateral, r.entry_payload::text
from cnstra.run r
where r.run_id = any(%(run_ids)s)

-- name: clock
-- The store's time.
select CLOCK()

-- name: begin_with_settings
-- A transaction that cannot rest on its session, with its settings.
begin;
select set_config(s.name, s.value, true)
from unnest(%(names)s::text[], %(values)s::text[]) s (name, value)

-- name: take_along
-- The settings of a transaction that is one statement: they go before it, and end with it.
select set_config(s.name, s.value, true)
from unnest(%(names)s::text[], %(values)s::text[]) s (name, value)

-- == sending by key ==

-- name: find_posted
-- Whether a signal was sent by this key before, and is the same; and the run that it was given to.
select p.collateral = %(collateral)s and p.payload = %(payload)s::jsonb, p.run_id
from cnstra.posted p
where p.graph = %(graph)s and p.key = %(key)s and p.idempotency_key = %(idempotency_key)s

-- name: posted_signal
-- What was sent by this key under an idempotency key.
select p.collateral, p.payload::text
from cnstra.posted p
where p.graph = %(graph)s and p.key = %(key)s and p.idempotency_key = %(idempotency_key)s

-- name: letter
-- What was sent to a run under an idempotency key.
select l.collateral, l.payload::text
from cnstra.letter l
where l.run_id = %(run_id)s and l.idempotency_key = %(idempotency_key)s

-- name: find_expecting
-- The oldest run that expects a signal by this key.
select e.run_id
from cnstra.expectation e
where e.graph = %(graph)s and e.key = %(key)s and e.collateral = %(collateral)s
order by e.run_id
limit 1

-- name: insert_posted
-- Keep a signal that was sent by key: for the run that expects it, or for the next one that does.
insert into cnstra.posted (graph, key, collateral, payload, idempotency_key, sent_at, run_id)
values (%(graph)s, %(key)s, %(collateral)s, %(payload)s::jsonb, %(idempotency_key)s, CLOCK(), %(run_id)s)
on conflict (graph, key, idempotency_key) do nothing
returning number

-- == claiming ==

-- name: hold_lease
-- Whether the worker's lease stands; keeps a supervisor from taking the worker for lost until the claim has committed.
select true from cnstra.worker where worker = %(worker)s and lost_at is null for share

-- name: claim
-- Hand out ready activations: by priority, then by age, in each queue. Locked rows are somebody else's, and passed over.
-- Unpinned ones and those of the worker's own version are ranges of the index, and so is each place of contexts that it
-- reaches: a backlog of other versions, or of a store that is away, is not read.
-- The first try is the first that comes to anything: a claim that was given back uncalled has not begun it.
-- The lease is held first, as ``hold_lease`` does; and what the runs' policies are asked with comes along. That is of the statement's
-- beginning: where it had to wait for the lease, others may have handed the activation out since, which its epoch tells.
with lease as materialized (
    select from cnstra.worker where worker = %(worker)s and lost_at is null for share),
candidate as materialized (
    select c.run_id, c.activation_id
    from unnest(%(queues)s::text[]) q (queue)
    cross join unnest(array['', %(graph_version)s::text]) p (pin)
    cross join unnest(%(places)s::text[]) l (place)
    cross join lateral (
        select a.run_id, a.activation_id, a.priority, a.available_at
        from cnstra.activation a
        where exists (select from lease)
          and a.status = 'ready' and a.blocked is null and a.graph = %(graph)s and a.queue = q.queue and a.pin = p.pin
          and a.place = l.place and SKILL(a) = any(%(dendrites)s::text[])
        order by a.priority desc, a.available_at
        limit %(limit)s
        for no key update skip locked) c
    order by c.priority desc, c.available_at
    limit %(limit)s)
update cnstra.activation a
set status = 'running', epoch = a.epoch + 1, nonce = %(nonce)s, worker = %(worker)s, tries = a.tries + 1,
    started_at = CLOCK(),
    first_try_at = case when a.failures + a.crashes + a.conflicts > 0 then coalesce(a.first_try_at, CLOCK()) else CLOCK() end
from candidate c
join cnstra.run r on r.run_id = APART(c.run_id)
where a.run_id = c.run_id and a.activation_id = c.activation_id
returning CLAIMED(a), FACTS(r)

-- name: claim_suspects
-- The same for poison suspects, which only a worker that runs nothing else may have. There are few of them, so that those of
-- paused runs, and of neurons whose limit is used up, are told by a look.
with candidate as materialized (
    select c.run_id, c.activation_id
    from unnest(%(queues)s::text[]) q (queue)
    cross join unnest(array['', %(graph_version)s::text]) p (pin)
    cross join unnest(%(places)s::text[]) l (place)
    cross join lateral (
        select a.run_id, a.activation_id, a.priority, a.available_at
        from cnstra.activation a
        where a.status = 'ready' and a.blocked = 'suspect' and a.graph = %(graph)s and a.queue = q.queue and a.pin = p.pin
          and a.place = l.place and SKILL(a) = any(%(dendrites)s::text[])
          and not exists (select from cnstra.run r where r.run_id = a.run_id and r.status = 'paused')
          and not exists (select from unnest(%(neurons)s::text[], %(most)s::int[]) n (neuron, most)
                          where a.limited and n.neuron = a.neuron
                            and n.most <= (select count(*) from cnstra.activation o
                                           where o.status = 'running' and o.limited and o.graph = %(graph)s and o.neuron = n.neuron))
        order by a.priority desc, a.available_at
        limit %(limit)s
        for no key update skip locked) c
    order by c.priority desc, c.available_at
    limit %(limit)s)
update cnstra.activation a
set status = 'running', epoch = a.epoch + 1, nonce = %(nonce)s, worker = %(worker)s, tries = a.tries + 1,
    started_at = CLOCK(), first_try_at = coalesce(a.first_try_at, CLOCK())
from candidate c
where a.run_id = c.run_id and a.activation_id = c.activation_id
returning CLAIMED(a)

-- name: suspects_wait
-- Whether a claim for suspects would find one.
select exists (
    select from cnstra.activation a
    where a.status = 'ready' and a.blocked = 'suspect' and a.graph = %(graph)s and a.queue = any(%(queues)s::text[])
      and a.pin = any(array['', %(graph_version)s::text]) and a.place = any(%(places)s::text[])
      and SKILL(a) = any(%(dendrites)s::text[])
      and not exists (select from cnstra.run r where r.run_id = a.run_id and r.status = 'paused')
      and not exists (select from unnest(%(neurons)s::text[], %(most)s::int[]) n (neuron, most)
                      where a.limited and n.neuron = a.neuron
                        and n.most <= (select count(*) from cnstra.activation o
                                       where o.status = 'running' and o.limited and o.graph = %(graph)s and o.neuron = n.neuron)))

-- name: claims_of_nonce
-- The claims that a worker was given under one nonce: what a claim whose reply was lost had answered.
select CLAIMED(a)
from cnstra.activation a
where a.worker = %(worker)s and a.nonce = %(nonce)s and a.status = 'running'

-- name: claims_of_ids
-- These activations as claims; only those that the worker holds.
select CLAIMED(a)
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[]) k (run_id, activation_id)
join cnstra.activation a on a.run_id = k.run_id and a.activation_id = k.activation_id
where UNINDEXED(a.status) = 'running'

-- name: report_progress
-- Keep what running handlers report of their progress, where their claims still stand; what is in no index, so that the row
-- stays on its page. It is no change to a run, and locks none: only rows of the reporting worker's own, in order.
update cnstra.activation a
set progress = h.progress
from (select c.run_id, c.activation_id, n.progress
      from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[], %(epochs)s::int[], %(nonces)s::bigint[], %(progress)s::jsonb[])
           n (run_id, activation_id, epoch, nonce, progress)
      join cnstra.activation c on c.run_id = n.run_id and c.activation_id = n.activation_id
      where UNINDEXED(c.status) = 'running' and c.epoch = n.epoch and c.nonce = n.nonce
      order by c.run_id, c.activation_id
      for no key update of c) h
where a.run_id = h.run_id and a.activation_id = h.activation_id
returning a.run_id, a.activation_id

-- name: children_held
-- The successors of an activation that its own worker kept when it was settled.
select c.activation_id
from cnstra.activation p
cross join lateral CHILDREN(p) c
where p.run_id = %(run_id)s and p.activation_id = %(activation_id)s
  and c.status = 'running' and c.worker = p.worker and c.nonce = p.nonce
order by c.activation_id

-- name: run_facts
-- What the policies of these runs are asked with, where their contexts are kept, and their versions; the mark of those of which
-- one activation is outstanding; and what a foothold needs beside.
select FACTS(r)
from cnstra.run r
where r.run_id = any(%(run_ids)s)

-- name: emitted
-- What these activations emitted, in their order: what a compensation is called with.
select k.run_id, k.activation_id, s.ordinal, s.collateral, s.payload::text
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[]) k (run_id, activation_id)
cross join lateral (
    (select distinct on (c.ordinal, c.path) c.ordinal, c.activation_id as place, c.collateral, c.payload
     from CHILDREN(k) c
     where c.origin = ''
     order by c.ordinal, c.path, c.activation_id)
    union all
    select (o ->> 'ordinal')::integer, 0, o ->> 'collateral', o -> 'payload'
    from cnstra.activation a
    cross join lateral jsonb_array_elements(a.outputs) o
    where a.run_id = k.run_id and a.activation_id = k.activation_id) s
order by k.run_id, k.activation_id, s.ordinal, s.place

-- name: load_contexts
-- The newest value of every slot of these runs' contexts; a removed slot comes without a text.
select h.run_id, h.version, head.slot, abs(head.version::bigint), e.value::text
from cnstra.context_head h
cross join lateral jsonb_each_text(h.heads) head (slot, version)
left join lateral (
    select value from cnstra.context_entry
    where run_id = h.run_id and version = head.version::bigint and slot = head.slot
    offset 0) e on true
where h.run_id = any(%(run_ids)s)

-- == applying the machine's plans ==

-- name: lock_runs
-- Lock runs in the order of their ids, before anything of theirs is read that a decision rests on.
select r.run_id, r.status, r.attempt, r.outstanding, r.active, r.failed, r.last_activation, r.last_finish,
       r.context_version, r.priority, r.alone, r.revive_after, r.gave_up, r.idled, r.error, r.error_type,
       r.started_at, r.finished_at, r.next_retry_at, r.deadline_at, r.ending, r.undoable, r.uncertain, r.undone,
       r.undo_error, r.undo_error_type, r.last_letter, r.last_group, r.graph
from cnstra.run r
where r.run_id = any(%(run_ids)s)
order by r.run_id
for no key update

-- name: lock_free_runs
-- The same for sweeps, which pass over runs that somebody else is changing: the next sweep comes soon.
select r.run_id, r.status, r.attempt, r.outstanding, r.active, r.failed, r.last_activation, r.last_finish,
       r.context_version, r.priority, r.alone, r.revive_after, r.gave_up, r.idled, r.error, r.error_type,
       r.started_at, r.finished_at, r.next_retry_at, r.deadline_at, r.ending, r.undoable, r.uncertain, r.undone,
       r.undo_error, r.undo_error_type, r.last_letter, r.last_group, r.graph
from cnstra.run r
where r.run_id = any(%(run_ids)s)
order by r.run_id
for no key update skip locked

-- name: load_activations
-- Activations of locked runs: a second statement, so that it sees what was committed while the first one waited. And the time,
-- which is to be that of the locks.
select a.run_id, a.activation_id, a.status, a.queue, a.attempt, a.epoch, a.nonce, a.worker, a.tries, a.failures, a.idled,
       a.conflicts, a.crashes, a.blocked, a.available_at, a.started_at, a.error, a.error_type, a.compensable, a.undo,
       a.finish, a.version_read, a.version_written, a.path, a.gathers, a.limited, a.handled, CLOCK()
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[]) k (run_id, activation_id)
join cnstra.activation a on a.run_id = k.run_id and a.activation_id = k.activation_id

-- name: load_open
-- All that is open of locked runs. Locked, too: claims, which take no lock on the run, are over before this reads on.
select a.run_id, a.activation_id, a.status, a.queue, a.attempt, a.epoch, a.nonce, a.worker, a.tries, a.failures, a.idled,
       a.conflicts, a.crashes, a.blocked, a.available_at, a.started_at, a.error, a.error_type, a.compensable, a.undo,
       a.finish, a.version_read, a.version_written, a.path, a.gathers, a.limited, a.handled
from cnstra.activation a
where a.run_id = any(%(run_ids)s) and a.status in ('ready', 'running', 'scheduled', 'waiting')
order by a.run_id, a.activation_id
for no key update

-- name: load_expectations
-- Open expectations of locked runs, of a collateral, the oldest first, as many as there are signals for them; where a key is
-- given, only those that have it.
select e.run_id, e.expectation_id, e.collateral, e.key, e.activations, e.expires_at, e.late::text
from unnest(%(run_ids)s::uuid[], %(collaterals)s::text[], %(keys)s::text[], %(limits)s::int[]) k (run_id, collateral, key, most)
cross join lateral (
    select o.* from cnstra.expectation o
    where o.run_id = k.run_id and o.collateral = k.collateral and (k.key is null or o.key = k.key)
    order by o.expectation_id
    limit k.most) e
order by e.run_id, e.expectation_id

-- name: load_expectations_by_id
-- Expectations of locked runs whose time may be over.
select e.run_id, e.expectation_id, e.collateral, e.key, e.activations, e.expires_at, e.late::text
from unnest(%(run_ids)s::uuid[], %(expectation_ids)s::int[]) k (run_id, expectation_id)
join cnstra.expectation e on e.run_id = k.run_id and e.expectation_id = k.expectation_id

-- name: known_letters
-- Which of these signals were sent to locked runs before, and whether they are the same.
select l.run_id, l.idempotency_key, l.collateral = k.collateral and l.payload = k.payload::jsonb
from unnest(%(run_ids)s::uuid[], %(idempotency_keys)s::text[], %(collaterals)s::text[], %(payloads)s::text[])
     k (run_id, idempotency_key, collateral, payload)
join cnstra.letter l on l.run_id = k.run_id and l.idempotency_key = k.idempotency_key

-- name: load_letters
-- Signals that were sent to locked runs and that nobody has expected yet, the oldest first, as many as are expected now.
select l.run_id, l.number, l.collateral, l.payload::text
from unnest(%(run_ids)s::uuid[], %(collaterals)s::text[], %(limits)s::int[]) k (run_id, collateral, most)
cross join lateral (
    select o.* from cnstra.letter o
    where o.run_id = k.run_id and o.collateral = k.collateral and o.taken_by is null
    order by o.number
    limit k.most) l

-- name: lock_keys
-- While a signal is sent by a key nobody begins to expect it, and the other way round: in the order of the locks, until the
-- transaction ends, after all runs were locked.
select pg_advisory_xact_lock(k.lock)
from (select distinct hashtextextended(n.graph || chr(31) || n.key, 0) as lock
      from unnest(%(graphs)s::text[], %(keys)s::text[]) n (graph, key)
      order by 1) k

-- name: graphs_of_runs
-- The graphs of runs.
select r.run_id, r.graph from cnstra.run r where r.run_id = any(%(run_ids)s)

-- name: load_posted
-- Signals that were sent by locked keys and that nobody has expected yet, the oldest first, as many as are expected now.
select p.graph, p.key, p.number, p.collateral, p.payload::text
from unnest(%(graphs)s::text[], %(keys)s::text[], %(collaterals)s::text[], %(limits)s::int[]) k (graph, key, collateral, most)
cross join lateral (
    select o.* from cnstra.posted o
    where o.graph = k.graph and o.key = k.key and o.collateral = k.collateral and o.run_id is null
    order by o.number
    limit k.most) p

-- name: load_groups
-- Groups that activations of locked runs are part of.
select s.run_id, s.group_id, s.parent, s.ordinal, s.collateral, s.size, s.most, s.path, s.targets::text, s.gathers, s.started,
       s.running, s.ended, s.closed
from unnest(%(run_ids)s::uuid[], %(group_ids)s::int[]) k (run_id, group_id)
join cnstra.scatter s on s.run_id = k.run_id and s.group_id = k.group_id

-- name: load_members
-- Members that activations of locked runs are part of.
select m.run_id, m.group_id, m.member, m.outstanding, m.failed, m.ended,
       case when m.results is null then '{}' else array(select jsonb_object_keys(m.results)) end
from unnest(%(run_ids)s::uuid[], %(group_ids)s::int[], %(members)s::int[]) k (run_id, group_id, member)
join cnstra.member m on m.run_id = k.run_id and m.group_id = k.group_id and m.member = k.member

-- name: load_pending
-- The payloads of members that may begin now.
select m.run_id, m.group_id, m.member, m.payload::text
from unnest(%(run_ids)s::uuid[], %(group_ids)s::int[], %(firsts)s::int[], %(limits)s::int[]) k (run_id, group_id, first, most)
join cnstra.member m on m.run_id = k.run_id and m.group_id = k.group_id and m.member >= k.first and m.member < k.first + k.most

-- name: load_heads
-- The newest version of every slot of locked runs' contexts.
select h.run_id, h.heads from cnstra.context_head h where h.run_id = any(%(run_ids)s)

-- name: update_runs
-- Write runs as the plans leave them.
update cnstra.run r
set status = n.status, attempt = n.attempt, outstanding = n.outstanding, active = n.active, failed = n.failed,
    last_activation = n.last_activation, last_finish = n.last_finish, context_version = n.context_version,
    alone = n.alone, revive_after = n.revive_after, gave_up = n.gave_up, idled = n.idled, error = n.error,
    error_type = n.error_type, started_at = n.started_at, finished_at = n.finished_at, next_retry_at = n.next_retry_at,
    ending = n.ending, undoable = n.undoable, uncertain = n.uncertain, undone = n.undone, undo_error = n.undo_error,
    undo_error_type = n.undo_error_type, last_letter = n.last_letter, last_group = n.last_group
from unnest(%(run_ids)s::uuid[], %(statuses)s::text[], %(attempts)s::int[], %(outstanding)s::int[], %(active)s::int[],
            %(failed)s::int[], %(last_activations)s::int[], %(last_finishes)s::int[], %(versions)s::bigint[],
            %(alone)s::int[], %(revive_after)s::float8[], %(gave_up)s::boolean[], %(idled)s::float8[], %(errors)s::text[],
            %(error_types)s::text[], %(started)s::timestamptz[], %(finished)s::timestamptz[], %(next_retries)s::timestamptz[],
            %(endings)s::text[], %(undoable)s::int[], %(uncertain)s::int[], %(undone)s::int[], %(undo_errors)s::text[],
            %(undo_error_types)s::text[], %(last_letters)s::int[], %(last_groups)s::int[])
     n (run_id, status, attempt, outstanding, active, failed, last_activation, last_finish, context_version, alone,
        revive_after, gave_up, idled, error, error_type, started_at, finished_at, next_retry_at, ending, undoable, uncertain,
        undone, undo_error, undo_error_type, last_letter, last_group)
where r.run_id = n.run_id

-- name: update_runs_that_go_on
-- The same for runs of which hops have changed no more than this.
update cnstra.run r
set status = n.status, outstanding = n.outstanding, active = n.active, last_activation = n.last_activation,
    last_finish = n.last_finish, last_group = n.last_group, context_version = n.context_version, started_at = n.started_at,
    finished_at = n.finished_at, undoable = n.undoable
from unnest(%(run_ids)s::uuid[], %(statuses)s::text[], %(outstanding)s::int[], %(active)s::int[], %(last_activations)s::int[],
            %(last_finishes)s::int[], %(last_groups)s::int[], %(versions)s::bigint[], %(started)s::timestamptz[],
            %(finished)s::timestamptz[], %(undoable)s::int[])
     n (run_id, status, outstanding, active, last_activation, last_finish, last_group, context_version, started_at, finished_at,
        undoable)
where r.run_id = n.run_id

-- name: finish_activations
-- Activations that have come to their end, and of which no more has changed than this: only where the row is still what the plan
-- was made from.
update cnstra.activation a
set status = 'done', finished_at = %(now)s, finish = n.finish, version_read = n.version_read, version_written = n.version_written,
    outputs = n.outputs::jsonb, undoable = n.undoable
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[], %(epochs)s::int[], %(finishes)s::int[], %(reads)s::bigint[],
            %(writes)s::bigint[], %(outputs)s::text[], %(undoable)s::boolean[])
     n (run_id, activation_id, epoch, finish, version_read, version_written, outputs, undoable)
where a.run_id = n.run_id and a.activation_id = n.activation_id and UNINDEXED(a.status) = 'running' and a.epoch = n.epoch
returning a.activation_id

-- name: update_activations
-- Write activations as the plans leave them; only where the row is still what the plan was made from.
update cnstra.activation a
set status = n.status, nonce = n.nonce, tries = n.tries, failures = n.failures, idled = n.idled, conflicts = n.conflicts,
    crashes = n.crashes, blocked = n.blocked, available_at = n.available_at, finished_at = n.finished_at,
    finish = n.finish, version_read = n.version_read, version_written = n.version_written,
    outputs = coalesce(n.outputs::jsonb, a.outputs),
    error = n.error, error_type = n.error_type, compensable = n.compensable, undoable = n.undoable,
    version_undone = n.version_undone, handled = n.handled
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[], %(befores)s::text[], %(epochs)s::int[], %(statuses)s::text[],
            %(nonces)s::bigint[], %(tries)s::int[], %(failures)s::int[], %(idled)s::float8[], %(conflicts)s::int[],
            %(crashes)s::int[], %(blocked)s::text[], %(available)s::timestamptz[], %(finished)s::timestamptz[],
            %(finishes)s::int[], %(reads)s::bigint[], %(writes)s::bigint[], %(outputs)s::text[], %(errors)s::text[],
            %(error_types)s::text[], %(compensable)s::text[], %(undoable)s::boolean[], %(versions_undone)s::bigint[],
            %(handled)s::boolean[])
     n (run_id, activation_id, before, epoch, status, nonce, tries, failures, idled, conflicts, crashes, blocked,
        available_at, finished_at, finish, version_read, version_written, outputs, error, error_type, compensable, undoable,
        version_undone, handled)
where a.run_id = n.run_id and a.activation_id = n.activation_id and a.status = n.before and a.epoch = n.epoch
returning a.activation_id

-- name: insert_activations
-- Begin activations, ready or kept by the worker that settled their parent; or keep what a run that ends does not begin.
-- Those that are submitted begin at the store's own time.
insert into cnstra.activation (run_id, activation_id, parent_activation_id, ordinal, graph, pin, place, neuron, dendrite,
                               collateral, payload, queue, priority, attempt, status, blocked, epoch, nonce, worker, tries,
                               created_at, available_at, first_try_at, started_at, finished_at, compensable, origin,
                               path, group_id, gathers, limited)
select n.run_id, n.activation_id, n.parent, n.ordinal, r.graph, case when r.pinned then r.graph_version else '' end,
       coalesce(r.context_place, '') || NEEDS(n.payload), n.neuron, n.dendrite, n.collateral, n.payload::jsonb, n.queue, r.priority,
       n.attempt, n.status, n.blocked,
       case when n.status = 'running' then 1 else 0 end, n.nonce, n.worker,
       case when n.status = 'running' then 1 else 0 end, coalesce(%(now)s::timestamptz, (select CLOCK())),
       coalesce(n.available_at, %(now)s::timestamptz, (select CLOCK())),
       case when n.status = 'running' then %(now)s::timestamptz end,
       case when n.status = 'running' then %(now)s::timestamptz end,
       case when n.status = 'cancelled' then %(now)s::timestamptz end, n.compensable, n.origin, n.path::int[], n.group_id,
       n.gathers, n.limited
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[], %(parents)s::int[], %(ordinals)s::int[], %(neurons)s::text[],
            %(dendrites)s::text[], %(collaterals)s::text[], %(payloads)s::text[], %(queues)s::text[], %(attempts)s::int[],
            %(statuses)s::text[], %(blocked)s::text[], %(nonces)s::bigint[], %(workers)s::uuid[],
            %(available)s::timestamptz[], %(compensable)s::text[], %(origins)s::text[], %(paths)s::text[],
            %(group_ids)s::int[], %(gathers)s::int[], %(limited)s::boolean[])
     n (run_id, activation_id, parent, ordinal, neuron, dendrite, collateral, payload, queue, attempt, status, blocked,
        nonce, worker, available_at, compensable, origin, path, group_id, gathers, limited)
join cnstra.run r on r.run_id = n.run_id

-- name: write_hops
-- What most settlements come to, in one round trip: runs that go on, activations that are done, and those that they begin.
-- Each part writes to rows of locked runs that no other does; what the last one reads of runs never changes.
with going as (INCLUDE(update_runs_that_go_on, run)),
     finished as (INCLUDE(finish_activations, done)),
     begun as (INCLUDE(insert_activations, new))
select count(*), pg_current_xact_id()::xid::text from finished

-- name: ahead
-- What the next two do: write hops that were decided before anything was read, where the run's row is still of the transaction that
-- marked it, and the claim is still the holder's. A run that somebody changes while this waits for it has that one's mark then, and
-- drops out; they come in the order of their ids. The rest derives from what has passed.
moment as materialized (select CLOCK() as now),
going as (
    update cnstra.run r
    set status = n.status, outstanding = n.outstanding, active = n.active, last_activation = n.last_activation,
        last_finish = n.last_finish, context_version = n.context_version, started_at = n.started_at,
        finished_at = case when n.ended then m.now end, undoable = n.undoables
    from unnest(%(run_ids)s::uuid[], %(marks)s::xid[], %(statuses)s::text[], %(outstanding)s::int[], %(active)s::int[],
                %(last_activations)s::int[], %(last_finishes)s::int[], %(versions)s::bigint[], %(started)s::timestamptz[],
                %(ended)s::boolean[], %(undoables)s::int[], %(activation_ids)s::int[], %(epochs)s::int[], %(nonces)s::bigint[],
                %(reads)s::bigint[], %(writes)s::bigint[], %(outputs)s::text[], %(undoable)s::boolean[], %(new_ids)s::int[],
                %(ordinals)s::int[], %(neurons)s::text[], %(dendrites)s::text[], %(collaterals)s::text[], %(payloads)s::text[],
                %(queues)s::text[], %(attempts)s::int[], %(kept)s::boolean[], %(blocked)s::text[], %(compensable)s::text[],
                %(limited)s::boolean[])
         n (run_id, mark, status, outstanding, active, last_activation, last_finish, context_version, started_at, ended, undoables,
            activation_id, epoch, nonce, version_read, version_written, outputs, undoable, new_id, ordinal, neuron, dendrite,
            collateral, payload, queue, attempt, kept, blocked, compensable, limited)
    join cnstra.activation a on a.run_id = n.run_id and a.activation_id = n.activation_id and UNINDEXED(a.status) = 'running'
                            and a.epoch = n.epoch and a.nonce = n.nonce
    cross join moment m
    where r.run_id = APART(n.run_id) and r.xmin = n.mark
    returning n.*, r.graph, case when r.pinned then r.graph_version else '' end as pin,
              coalesce(r.context_place, '') || NEEDS(n.payload) as place,
              r.priority, a.worker, m.now),
finished as (
    update cnstra.activation a
    set status = 'done', finished_at = n.now, finish = n.last_finish, version_read = n.version_read,
        version_written = n.version_written, outputs = n.outputs::jsonb, undoable = n.undoable
    from going n
    where a.run_id = n.run_id and a.activation_id = n.activation_id),
begun as (
    insert into cnstra.activation (run_id, activation_id, parent_activation_id, ordinal, graph, pin, place, neuron, dendrite,
                                   collateral, payload, queue, priority, attempt, status, blocked, epoch, nonce, worker, tries,
                                   created_at, available_at, first_try_at, started_at, compensable, origin, limited)
    select n.run_id, n.new_id, n.activation_id, n.ordinal, n.graph, n.pin, n.place, n.neuron, n.dendrite, n.collateral,
           n.payload::jsonb, n.queue, n.priority, n.attempt, case when n.kept then 'running' else 'ready' end, n.blocked,
           n.kept::int, case when n.kept then n.nonce end, case when n.kept then n.worker end, n.kept::int, n.now, n.now,
           case when n.kept then n.now end, case when n.kept then n.now end, n.compensable, '', n.limited
    from going n
    where n.new_id is not null)

-- name: settle_ahead
-- Settle hops that were decided ahead. Answers for which runs, when, and the new mark.
with INCLUDE(ahead, hop)
select run_id, now, pg_current_xact_id()::xid::text from going

-- name: settle_ahead_with_contexts
-- The same of hops some of which have written. ``not (… not in …)`` is looked up in a hash; a plain ``in`` would be joined, row by row.
with INCLUDE(ahead, hop),
entered as (
    INCLUDE(insert_entries, entry)
    where not (n.run_id not in (select run_id from going))),
headed as (
    insert into cnstra.context_head as h (run_id, version, heads, updated_at)
    select n.run_id, n.version, n.heads::jsonb, m.now
    from unnest(%(head_run_ids)s::uuid[], %(head_versions)s::bigint[], %(head_heads)s::text[]) n (run_id, version, heads)
    cross join moment m
    where not (n.run_id not in (select run_id from going))
    on conflict (run_id) do update
    set version = excluded.version, heads = h.heads || excluded.heads, updated_at = excluded.updated_at)
select run_id, now, pg_current_xact_id()::xid::text from going

-- name: deliver
-- Give activations that waited the signals that have come for them.
update cnstra.activation a
set payload = n.payload::jsonb, place = a.place || NEEDS(n.payload)
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[], %(payloads)s::text[]) n (run_id, activation_id, payload)
where a.run_id = n.run_id and a.activation_id = n.activation_id

-- name: insert_expectations
-- Begin to wait for signals from outside.
insert into cnstra.expectation (run_id, expectation_id, graph, collateral, key, activations, expires_at, late)
select n.run_id, n.expectation_id, r.graph, n.collateral, n.key, n.activations::int[], n.expires_at, n.late::jsonb
from unnest(%(run_ids)s::uuid[], %(expectation_ids)s::int[], %(collaterals)s::text[], %(keys)s::text[],
            %(activations)s::text[], %(expire)s::timestamptz[], %(late)s::text[])
     n (run_id, expectation_id, collateral, key, activations, expires_at, late)
join cnstra.run r on r.run_id = n.run_id

-- name: delete_expectations
-- What was expected has come, or has not come in time.
delete from cnstra.expectation e
using unnest(%(run_ids)s::uuid[], %(expectation_ids)s::int[]) n (run_id, expectation_id)
where e.run_id = n.run_id and e.expectation_id = n.expectation_id

-- name: insert_letters
-- Keep signals that were sent to runs.
insert into cnstra.letter (run_id, number, collateral, payload, idempotency_key, sent_at, taken_by)
select n.run_id, n.number, n.collateral, n.payload::jsonb, n.idempotency_key, %(now)s, n.taken_by
from unnest(%(run_ids)s::uuid[], %(numbers)s::int[], %(collaterals)s::text[], %(payloads)s::text[],
            %(idempotency_keys)s::text[], %(takers)s::int[])
     n (run_id, number, collateral, payload, idempotency_key, taken_by)

-- name: take_letters
-- Signals that had been sent to runs before they were expected are taken.
update cnstra.letter l
set taken_by = n.taken_by
from unnest(%(run_ids)s::uuid[], %(numbers)s::int[], %(takers)s::int[]) n (run_id, number, taken_by)
where l.run_id = n.run_id and l.number = n.number

-- name: take_posted
-- Signals that had been sent by key before they were expected are taken.
update cnstra.posted p
set run_id = n.run_id
from unnest(%(run_ids)s::uuid[], %(keys)s::text[], %(numbers)s::bigint[]) n (run_id, key, number)
join cnstra.run r on r.run_id = n.run_id
where p.graph = r.graph and p.key = n.key and p.number = n.number

-- name: insert_groups
-- Begin scatters.
insert into cnstra.scatter (run_id, group_id, parent, ordinal, collateral, size, most, path, targets, gathers, started, running,
                            ended, closed)
select n.run_id, n.group_id, n.parent, n.ordinal, n.collateral, n.size, n.most, n.path::int[], n.targets::jsonb,
       n.gathers::jsonb, n.started, n.running, n.ended, n.closed
from unnest(%(run_ids)s::uuid[], %(group_ids)s::int[], %(parents)s::int[], %(ordinals)s::int[], %(collaterals)s::text[],
            %(sizes)s::int[], %(limits)s::int[], %(paths)s::text[], %(targets)s::text[], %(gathers)s::text[],
            %(started)s::int[], %(running)s::int[], %(ended)s::int[], %(closed)s::boolean[])
     n (run_id, group_id, parent, ordinal, collateral, size, most, path, targets, gathers, started, running, ended, closed)

-- name: insert_members
-- The members of scatters, with their payloads where these are needed later.
insert into cnstra.member (run_id, group_id, member, outstanding, payload)
select n.run_id, n.group_id, n.member, n.outstanding, n.payload::jsonb
from unnest(%(run_ids)s::uuid[], %(group_ids)s::int[], %(members)s::int[], %(outstanding)s::int[], %(payloads)s::text[])
     n (run_id, group_id, member, outstanding, payload)

-- name: update_groups
-- Write groups as the plans leave them.
update cnstra.scatter s
set started = n.started, running = n.running, ended = n.ended, closed = n.closed
from unnest(%(run_ids)s::uuid[], %(group_ids)s::int[], %(started)s::int[], %(running)s::int[], %(ended)s::int[],
            %(closed)s::boolean[])
     n (run_id, group_id, started, running, ended, closed)
where s.run_id = n.run_id and s.group_id = n.group_id

-- name: update_members
-- Write members as the plans leave them: what they gave is added, and the first failure stays.
update cnstra.member m
set outstanding = n.outstanding, failed = n.failed, ended = n.ended,
    results = case when n.results is null then m.results else coalesce(m.results, '{}') || n.results::jsonb end,
    failure = coalesce(m.failure, n.failure::jsonb)
from unnest(%(run_ids)s::uuid[], %(group_ids)s::int[], %(members)s::int[], %(outstanding)s::int[], %(failed)s::int[],
            %(ended)s::boolean[], %(results)s::text[], %(failures)s::text[])
     n (run_id, group_id, member, outstanding, failed, ended, results, failure)
where m.run_id = n.run_id and m.group_id = n.group_id and m.member = n.member

-- name: fire
-- The results of groups that have ended, in the order of the scatter, to the gathers that are called with them: a member that
-- gave none is left out, and one that has failed is put in its place where that is wanted. Who opens one opens them all.
update cnstra.activation a
set (payload, place) = (
    select coalesce(jsonb_agg(
               case when not n.failures then m.results -> n.collateral
                    when m.failure is null then jsonb_build_object('result', m.results -> n.collateral)
                    else jsonb_build_object('failure', m.failure || jsonb_build_object(
                             'index', m.member, 'payload', m.payload, 'collateral', s.collateral)) end
               order by m.member), '[]'),
           a.place || coalesce(chr(31) || max(split_part(
               coalesce(m.results -> n.collateral ->> '$sealed', m.payload ->> '$sealed'), ':', 1)), '')
    from cnstra.member m
    join cnstra.scatter s on s.run_id = m.run_id and s.group_id = m.group_id
    where m.run_id = n.run_id and m.group_id = n.group_id
      and (m.results ? n.collateral or n.failures and m.failure is not null))
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[], %(group_ids)s::int[], %(collaterals)s::text[],
            %(failures)s::boolean[])
     n (run_id, activation_id, group_id, collateral, failures)
where a.run_id = n.run_id and a.activation_id = n.activation_id

-- name: abandon
-- Groups within members that have ended with a failure that a group around takes, from a path up to, and without, another:
-- they will never end, and their gathers are never called.
with gone as (
    update cnstra.activation a
    set status = 'cancelled', finished_at = %(now)s
    from unnest(%(run_ids)s::uuid[], %(paths)s::text[], %(ends)s::text[]) n (run_id, path, path_end)
    where a.run_id = n.run_id and a.status = 'waiting' and a.gathers is not null
      and a.path >= n.path::int[] and a.path < n.path_end::int[])
update cnstra.scatter s
set closed = true
from unnest(%(run_ids)s::uuid[], %(paths)s::text[], %(ends)s::text[]) n (run_id, path, path_end)
where s.run_id = n.run_id and not s.closed and s.path is not null and s.path >= n.path::int[] and s.path < n.path_end::int[]

-- name: insert_entries
-- Write slots of contexts, each value once.
insert into cnstra.context_entry (run_id, version, slot, activation_id, value)
select n.run_id, n.version, n.slot, n.activation_id, n.value
from unnest(%(run_ids)s::uuid[], %(versions)s::bigint[], %(slots)s::text[], %(activation_ids)s::int[], %(texts)s::jsonb[])
     n (run_id, version, slot, activation_id, value)

-- name: update_heads
-- Point contexts at the versions that their slots were written by.
insert into cnstra.context_head as h (run_id, version, heads, updated_at)
select n.run_id, n.version, n.heads::jsonb, %(now)s
from unnest(%(run_ids)s::uuid[], %(versions)s::bigint[], %(heads)s::text[]) n (run_id, version, heads)
on conflict (run_id) do update
set version = excluded.version, heads = h.heads || excluded.heads, updated_at = excluded.updated_at

-- name: insert_tries
-- Keep calls that did not commit, with their tracebacks.
insert into cnstra.try (run_id, activation_id, try_number, worker, started_at, finished_at, error, error_type,
                        error_traceback, undo)
select n.run_id, n.activation_id, n.try_number, n.worker, n.started_at, %(now)s, n.error, n.error_type, n.traceback, n.undo
from unnest(%(run_ids)s::uuid[], %(activation_ids)s::int[], %(numbers)s::int[], %(workers)s::uuid[],
            %(started)s::timestamptz[], %(errors)s::text[], %(error_types)s::text[], %(tracebacks)s::text[],
            %(undo)s::boolean[])
     n (run_id, activation_id, try_number, worker, started_at, error, error_type, traceback, undo)

-- name: revive
-- Begin the next attempt of runs: their failed activations become ready; of runs that are being undone, the compensation that
-- failed. That one keeps its place in the order of finishing.
update cnstra.activation a
set status = 'ready', attempt = r.attempt, failures = 0, idled = 0, crashes = 0, first_try_at = null, nonce = null,
    blocked = UNBLOCKED(a), available_at = %(now)s, finished_at = null, finish = case when a.undo then a.finish end, error = null, error_type = null,
    undoable = false
from cnstra.run r
where r.run_id = any(%(run_ids)s) and a.run_id = r.run_id and a.status = 'failed' and a.undo = (r.ending is not null)
  and (a.undo or not a.handled)
returning DOOR(a), a.run_id, a.activation_id

-- name: revive_members
-- What has failed in members is outstanding again.
with revived as (
    update cnstra.member m
    set outstanding = m.outstanding + m.failed, failed = 0
    from cnstra.scatter s, cnstra.run r
    where r.run_id = any(%(run_ids)s) and r.ending is null and s.run_id = r.run_id and not s.closed
      and m.run_id = s.run_id and m.group_id = s.group_id and m.failed > 0 and not m.ended
    returning m.run_id, m.group_id)
update cnstra.scatter s
set running = s.running + n.members
from (select run_id, group_id, count(*)::int as members from revived group by run_id, group_id) n
where s.run_id = n.run_id and s.group_id = n.group_id

-- name: close_expectations
-- Of runs that end nothing is expected any more.
delete from cnstra.expectation where run_id = any(%(run_ids)s)

-- name: close_groups
-- Of runs that end no group is counted any more.
update cnstra.scatter s set closed = true where s.run_id = any(%(run_ids)s) and not s.closed

-- name: close_gathers
-- Of runs that end no gather is called any more.
update cnstra.activation a
set status = 'cancelled', finished_at = %(now)s
where a.run_id = any(%(run_ids)s) and a.status = 'waiting'

-- name: note_done
-- Of what is to be undone next, keep the call that is undone among the tries, where it had committed.
insert into cnstra.try (run_id, activation_id, try_number, worker, started_at, finished_at)
select a.run_id, a.activation_id, a.tries, a.worker, a.started_at, a.finished_at
from unnest(%(run_ids)s::uuid[]) k (run_id)
cross join lateral (
    select u.* from cnstra.activation u
    where u.run_id = k.run_id and u.undoable
    order by u.finish desc
    limit 1) a
where a.status = 'done'

-- name: undo
-- Of what is to be undone, the one that finished last becomes ready for its compensation. It keeps the nonce, by which who
-- settled it is known until it is claimed anew. The run is no part of the join: through it, all of its activations were read.
update cnstra.activation a
set status = 'ready', undo = true, undoable = false,
    attempt = (select r.attempt from cnstra.run r where r.run_id = a.run_id), failures = 0, idled = 0, conflicts = 0, crashes = 0,
    first_try_at = null, blocked = UNBLOCKED(a), available_at = %(now)s, done_at = a.finished_at, finished_at = null,
    error = null, error_type = null
from unnest(%(run_ids)s::uuid[]) k (run_id)
cross join lateral (
    select u.run_id, u.activation_id from cnstra.activation u
    where u.run_id = k.run_id and u.undoable
    order by u.finish desc
    limit 1) l
where a.run_id = l.run_id and a.activation_id = l.activation_id
returning DOOR(a), a.run_id, a.activation_id

-- name: hold
-- Nothing of paused runs is to be claimed; not what nobody knew either, when a worker has come that does.
update cnstra.activation a
set blocked = 'paused'
where a.run_id = any(%(run_ids)s) and a.status = 'ready' and (a.blocked is null or a.blocked in ('unknown', 'alone', 'limited'))

-- name: let_go
-- What was set aside while its run was paused may be claimed again.
update cnstra.activation a
set blocked = UNBLOCKED(a)
where a.run_id = any(%(run_ids)s) and a.status = 'ready' and a.blocked = 'paused'
returning DOOR(a), a.run_id, a.activation_id

-- name: set_others_aside
-- While an activation is to run alone, no other of its run is to be claimed; not what nobody knew either, when a worker has
-- come that does.
update cnstra.activation a
set blocked = 'alone'
from cnstra.run r
where r.run_id = any(%(run_ids)s) and a.run_id = r.run_id and a.status = 'ready'
  and (a.blocked is null or a.blocked in ('unknown', 'limited')) and a.activation_id <> r.alone

-- name: let_alone_run
-- The one that is to run alone is free to be claimed once no other of its run is running.
update cnstra.activation a
set blocked = UNBLOCKED(a)
from cnstra.run r
where r.run_id = any(%(run_ids)s) and a.run_id = r.run_id and a.activation_id = r.alone and a.status = 'ready'
  and a.blocked = 'alone'
  and not exists (select from cnstra.activation o
                  where o.run_id = a.run_id and UNINDEXED(o.status) = 'running' and o.activation_id <> a.activation_id)
returning DOOR(a), a.run_id, a.activation_id

-- name: make_alone_wait
-- The one that is to run alone waits while others of its run are running.
update cnstra.activation a
set blocked = 'alone'
from cnstra.run r
where r.run_id = any(%(run_ids)s) and a.run_id = r.run_id and a.activation_id = r.alone and a.status = 'ready'
  and (a.blocked is null or a.blocked = 'limited')
  and exists (select from cnstra.activation o
              where o.run_id = a.run_id and UNINDEXED(o.status) = 'running' and o.activation_id <> a.activation_id)

-- name: rejoin
-- Those that were set aside for one that ran alone may be claimed again.
update cnstra.activation a
set blocked = UNBLOCKED(a)
where a.run_id = any(%(run_ids)s) and a.blocked = 'alone'
returning DOOR(a), a.run_id, a.activation_id

-- == contexts that are kept elsewhere ==

-- name: note_litter
-- Blobs that no run refers to are to be deleted from their stores.
insert into cnstra.context_litter (place, key, noted_at)
select n.place, n.key, %(now)s
from unnest(%(places)s::text[], %(keys)s::text[]) n (place, key)
on conflict do nothing

-- name: note_litter_of_runs
-- The blobs of runs that are about to be forgotten are to be deleted from their stores; in the transaction that forgets them.
insert into cnstra.context_litter (place, key, noted_at)
select distinct r.context_place, e.value #>> '{}', CLOCK()
from cnstra.run r
join cnstra.context_entry e on e.run_id = r.run_id
where r.run_id = any(%(run_ids)s) and r.context_place is not null and e.value is not null
on conflict do nothing

-- name: litter
-- Blobs that are to be deleted from a store. Not at once: what a failover brings back may refer to them again.
select l.key from cnstra.context_litter l
where l.place = %(place)s and l.noted_at < (select CLOCK()) - %(after)s::interval
order by l.key
limit %(limit)s

-- name: referred_litter
-- What a run refers to after all is no litter: nothing that is part of a context is ever deleted.
select k.key
from unnest(%(keys)s::text[]) k (key)
where exists (select from cnstra.context_entry e
              where e.run_id = split_part(k.key, '/', 1)::uuid and e.value = to_jsonb(k.key))

-- name: litter_gone
-- They are deleted, or no litter.
delete from cnstra.context_litter where place = %(place)s and key = any(%(keys)s::text[])

-- == workers and supervision ==

-- name: keep_aside_closed
-- While a worker comes, nothing is set aside: what one did not see yet, the other would leave blocked for good.
select true from cnstra.supervisor for share

-- name: register
-- Begin a worker's lease.
insert into cnstra.worker (worker, host, pid, graph, graph_version, queues, dendrites, places, limits, lease, started_at,
                           last_seen_at, expires_at)
select %(worker)s, %(host)s, %(pid)s, %(graph)s, %(graph_version)s, %(queues)s, %(dendrites)s, %(places)s,
       %(limits)s::jsonb, %(lease)s, t.now, t.now, t.now + %(lease)s
from (select CLOCK() as now) t
on conflict (worker) do nothing

-- name: readmit_known
-- What nobody knew becomes claimable when a worker has come that knows it, so many at a time. Rows that another newcomer has
-- locked are waited for, in order: were they passed over, and that one failed, they would stay aside although somebody knows
-- them. The inner limit keeps the order of the index, the outer one ends the search.
update cnstra.activation a
set blocked = UNBLOCKED(a)
from (select k.run_id, k.activation_id
      from unnest(%(queues)s::text[]) q (queue)
      cross join unnest(array['', %(graph_version)s::text]) p (pin)
      cross join unnest(%(places)s::text[]) l (place)
      cross join unnest(%(dendrites)s::text[]) d (dendrite)
      cross join lateral (
          select u.run_id, u.activation_id
          from cnstra.activation u
          where u.blocked = 'unknown' and u.graph = %(graph)s and u.queue = q.queue and u.pin = p.pin
            and u.place = l.place and SKILL(u) = d.dendrite
          order by u.run_id, u.activation_id
          limit %(limit)s
          for no key update) k
      limit %(limit)s) k
where a.run_id = k.run_id and a.activation_id = k.activation_id
returning a.activation_id

-- name: renew
-- Extend a worker's lease, unless it was taken for lost; and the claims that it holds, or one row of nulls, and whether their run
-- ends: then nothing follows on them.
with renewed as (
    update cnstra.worker
    set last_seen_at = CLOCK(), expires_at = CLOCK() + lease
    where worker = %(worker)s and lost_at is null
    returning worker)
select a.run_id, a.activation_id, a.epoch, a.nonce, r.ending is not null and not a.undo
from renewed w
left join (cnstra.activation a join cnstra.run r on r.run_id = a.run_id) on a.worker = w.worker and a.status = 'running'

-- name: leave
-- End a worker's lease at once.
update cnstra.worker set lost_at = CLOCK() where worker = %(worker)s and lost_at is null

-- name: glance
-- Be the supervisor for a while longer, unless somebody else is; and whether there is anything to look for: of most looks that
-- is all. What is due, by kind; whether any worker's lease has run out, or one that is lost still has claims; whether anything
-- waits that only some claims may have; whether anything has been ready for a while.
with elected as (
    update cnstra.supervisor
    set worker = %(worker)s, until = CLOCK() + %(lease)s
    where worker = %(worker)s or until < (select CLOCK())
    returning worker)
select exists (select from elected),
       exists (select from cnstra.activation a where a.status = 'scheduled' and a.available_at <= (select CLOCK())),
       exists (select from cnstra.run r where r.next_retry_at <= (select CLOCK()) and r.status = 'waiting'),
       exists (select from cnstra.expectation e where e.expires_at <= (select CLOCK())),
       exists (select from cnstra.run r
               where r.deadline_at <= (select CLOCK()) and r.finished_at is null and r.ending is null and r.status <> 'paused'),
       exists (select from cnstra.worker where lost_at is not null or expires_at < (select CLOCK())),
       exists (select from cnstra.activation a where a.status = 'ready' and a.blocked = 'suspect')
           or exists (select from cnstra.activation a where a.status = 'ready' and a.blocked = 'limited'),
       exists (select from cnstra.activation a
               where a.status = 'ready' and a.blocked is null and a.available_at < (select CLOCK()) - %(unclaimed_after)s::interval)

-- name: find_due
-- Scheduled activations whose time has come.
select a.run_id, a.activation_id from cnstra.activation a
where a.status = 'scheduled' and a.available_at <= (select CLOCK())
order by a.available_at
limit %(limit)s

-- name: find_attempts_due
-- Runs whose next attempt is due.
select r.run_id from cnstra.run r
where r.next_retry_at <= (select CLOCK()) and r.status = 'waiting'
order by r.next_retry_at
limit %(limit)s

-- name: find_expectations_due
-- Expectations whose time is over.
select e.run_id, e.expectation_id from cnstra.expectation e
where e.expires_at <= (select CLOCK())
order by e.expires_at
limit %(limit)s

-- name: find_deadlines_due
-- Runs whose deadline has passed; a paused one's is looked at when it goes on.
select r.run_id from cnstra.run r
where r.deadline_at <= (select CLOCK()) and r.finished_at is null and r.ending is null and r.status <> 'paused'
order by r.deadline_at
limit %(limit)s

-- name: find_suspects
-- Whether any poison suspect waits; and whether anything does that only claims which hold a limit may have.
select exists (select from cnstra.activation a
               where a.status = 'ready' and a.blocked = 'suspect'
                 and not exists (select from cnstra.run r where r.run_id = a.run_id and r.status = 'paused')),
       exists (select from cnstra.activation a where a.status = 'ready' and a.blocked = 'limited')

-- name: find_unclaimed
-- Ready activations that nobody has claimed for a while: their doorbell was lost, or everybody is busy.
-- Only where a live worker could claim them: a graph, a version or a place whose workers are away must not hide another's.
select c.door, c.run_id, c.activation_id
from (select distinct w.graph, q.queue, p.pin, l.place
      from cnstra.worker w cross join lateral unnest(w.queues) q (queue)
      cross join lateral unnest(array['', w.graph_version]) p (pin)
      cross join lateral unnest(w.places) l (place)
      where w.lost_at is null) served
cross join lateral (
    select DOOR(a) as door, a.run_id, a.activation_id
    from cnstra.activation a
    where a.status = 'ready' and a.blocked is null and a.graph = served.graph and a.queue = served.queue
      and a.pin = served.pin and a.place = served.place and a.available_at < (select CLOCK()) - %(unclaimed_after)s::interval
    order by a.priority desc, a.available_at
    limit %(limit)s) c

-- name: take_for_lost
-- Workers whose lease has run out are lost: from here on they can claim nothing.
update cnstra.worker
set lost_at = CLOCK()
where worker in (select w.worker from cnstra.worker w
                 where w.lost_at is null and w.expires_at < (select CLOCK()) for no key update skip locked)

-- name: forget_lost
-- A lost worker is forgotten once it holds no claim.
delete from cnstra.worker w
where w.lost_at is not null
  and not exists (select from cnstra.activation a where a.worker = w.worker and a.status = 'running')

-- name: lost_claims
-- Claims of lost workers. Found before they are sorted: in the order of their ids, all activations would be gone through.
with lost as materialized (
    select a.run_id, a.activation_id, a.epoch, a.nonce, a.worker, w.host, w.pid
    from cnstra.worker w
    join cnstra.activation a on a.worker = w.worker and a.status = 'running'
    where w.lost_at is not null)
select run_id, activation_id, epoch, nonce, worker, host, pid
from lost
order by run_id, activation_id
limit %(limit)s

-- name: keep_registration_closed
-- While activations are set aside, no worker comes.
select true from cnstra.supervisor for no key update

-- name: set_unknown_aside
-- Ready activations that no live worker of their graph, queue, version and place knows leave the ready index, so that
-- nothing starves behind them. Those of a version or a place that nobody has are in nobody's way there, and stay. Only the
-- first ones in the order of claiming are looked at: those are what others would starve behind.
-- Locked are only those that leave: the others wait for their turn, and a claim that found them locked would pass over them.
update cnstra.activation a
set blocked = 'unknown'
from (select distinct w.graph, q.queue, p.pin, l.place
      from cnstra.worker w cross join lateral unnest(w.queues) q (queue)
      cross join lateral unnest(array['', w.graph_version]) p (pin)
      cross join lateral unnest(w.places) l (place)
      where w.lost_at is null) served
cross join lateral (
    select k.run_id, k.activation_id
    from (select f.run_id, f.activation_id, SKILL(f) as dendrite
          from cnstra.activation f
          where f.status = 'ready' and f.blocked is null and f.graph = served.graph and f.queue = served.queue
            and f.pin = served.pin and f.place = served.place and f.available_at < (select CLOCK()) - %(unclaimed_after)s::interval
          order by f.priority desc, f.available_at
          limit %(limit)s) f
    join cnstra.activation k on k.run_id = f.run_id and k.activation_id = f.activation_id
    where UNINDEXED(k.status) = 'ready' and k.blocked is null
      and not exists (select from cnstra.worker w
                      where w.lost_at is null and w.graph = served.graph and served.queue = any(w.queues)
                        and served.pin in ('', w.graph_version) and served.place = any(w.places)
                        and f.dendrite = any(w.dendrites))
    for no key update of k skip locked) u
where a.run_id = u.run_id and a.activation_id = u.activation_id
returning a.activation_id

-- == reading ==

-- name: has_schema
-- Whether the database was ever migrated.
select to_regclass('cnstra.migration') is not null

-- name: schema_version
-- The newest migration that the database took.
select coalesce(max(number), 0) from cnstra.migration

-- name: run_row
-- One run, as users see it.
select * from cnstra.runs where run_id = %(run_id)s

-- name: run_outcome
-- What one run came to, for who waits for it: to plan the view with all its columns takes longer than all else.
select run_id, status, outputs, error, error_type from cnstra.runs where run_id = %(run_id)s

-- name: run_status
-- One run's status.
select status from cnstra.runs where run_id = %(run_id)s

-- name: run_standing
-- How one run stands, for who follows it: none of its data.
select run_id, status, context_version, context_place from cnstra.runs where run_id = %(run_id)s

-- name: run_rows
-- The newest runs that fit.
select * from cnstra.runs
where (%(status)s::text is null or status = %(status)s)
  and (%(tags)s::jsonb is null or tags <> '{}' and tags @> %(tags)s::jsonb)
  and (%(tag_key)s::text is null or tags ? %(tag_key)s)
  and (%(from_id)s::uuid is null or run_id >= %(from_id)s)
  and (%(since)s::timestamptz is null or submitted_at >= %(since)s)
order by run_id desc
limit %(limit)s

-- name: activation_rows
-- A run's activations, as users see them.
select * from cnstra.activations where run_id = %(run_id)s order by activation_id

-- name: history
-- Who wrote what of a run's context, after a version, portion by portion.
select * from cnstra.context_history where run_id = %(run_id)s and version > %(after)s order by version limit %(limit)s

-- name: run_version
-- The newest version of a run's context, and where it is kept.
select context_version, context_place from cnstra.run where run_id = %(run_id)s

-- name: context_at
-- Every slot of a context as it was at a version.
select distinct on (e.slot) e.slot, e.version, e.value::text
from cnstra.context_entry e
where e.run_id = %(run_id)s and e.version <= %(version)s
order by e.slot, e.version desc

-- name: references
-- What versions of a context wrote that is kept elsewhere.
select e.version, e.slot, e.value::text
from cnstra.context_entry e
where e.run_id = %(run_id)s and e.version > %(after)s and (%(until)s::bigint is null or e.version <= %(until)s)
order by e.version, e.slot

-- name: failed_runs
-- Failed runs that can be retried, in the order of their ids, page by page: as Run.is_retriable has it.
select r.run_id from cnstra.run r
where r.status = 'failed' and r.failed > 0
  and (r.ending is not null or r.deadline_at is null or r.deadline_at > (select CLOCK()))
  and (%(graph)s::text is null or r.graph = %(graph)s)
  and (%(tags)s::jsonb is null or r.tags @> %(tags)s::jsonb)
  and (%(tag_key)s::text is null or r.tags ? %(tag_key)s)
  and (%(since)s::timestamptz is null or r.submitted_at >= %(since)s)
  and (%(before)s::timestamptz is null or r.submitted_at < %(before)s)
  and (%(after)s::uuid is null or r.run_id > %(after)s)
order by r.run_id
limit %(limit)s

-- name: open_runs
-- Runs that nobody and nothing has begun to end, in the order of their ids, page by page.
select r.run_id from cnstra.run r
where r.finished_at is null and r.ending is null
  and (%(statuses)s::text[] is null or r.status = any(%(statuses)s::text[]))
  and (%(graph)s::text is null or r.graph = %(graph)s)
  and (%(tags)s::jsonb is null or r.tags @> %(tags)s::jsonb)
  and (%(tag_key)s::text is null or r.tags ? %(tag_key)s)
  and (%(since)s::timestamptz is null or r.submitted_at >= %(since)s)
  and (%(before)s::timestamptz is null or r.submitted_at < %(before)s)
  and (%(after)s::uuid is null or r.run_id > %(after)s)
order by r.run_id
limit %(limit)s

-- name: original
-- What a run was submitted with, for a clone of it.
select r.graph, r.entry_collateral, r.entry_payload::text, r.priority, r.tags, r.policy, r.context_place, r.deadline_after
from cnstra.run r
where r.run_id = %(run_id)s

-- == replicas ==

-- name: standing
-- Whether this is a replica, of which system, on which timeline, how far in the log, and with which schema. Its receiver's timeline
-- is seen by who may read all statistics; for others it is the newest that is noted on disk, which comes later.
select pg_is_in_recovery(), (select c.system_identifier from pg_control_system() c),
       case when pg_is_in_recovery()
            then coalesce((select w.received_tli from pg_stat_wal_receiver w),
                          (select greatest(c.timeline_id, r.min_recovery_end_timeline)
                           from pg_control_checkpoint() c, pg_control_recovery() r))
            else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end,
       (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end - '0/0'::pg_lsn)::bigint,
       (select coalesce(max(m.number), 0) from cnstra.migration m)

-- name: transaction_id
-- The transaction that this is.
select pg_current_xact_id()::text

-- name: transactions_ended
-- Those of these transactions that have been committed or rolled back.
select t.id
from unnest(%(transactions)s::text[]) t (id)
where pg_xact_status(t.id::xid8) is distinct from 'in progress'

-- == mirrors ==

-- name: sight
-- How the runs that a mirror follows stand, as far as they have moved; and which others there are, live or lately ended.
select '' as part, null::uuid as run_id, null::bigint as version, null::text as place, null::boolean as ended,
       (select CLOCK()) as at
union all
(select case when r.run_id is null then 'gone' else 'moved' end, k.run_id, r.context_version, r.context_place,
        r.finished_at is not null, null
 from unnest(%(run_ids)s::uuid[], %(versions)s::bigint[]) k (run_id, version)
 left join cnstra.run r on r.run_id = k.run_id and (not %(among)s::boolean or FITS(r))
 where r.run_id is null or r.context_version > k.version or r.finished_at is not null)
union all
(select 'found', f.run_id, f.context_version, f.context_place, f.ended, null
 from ((select r.run_id, r.context_version, r.context_place, false as ended
        from cnstra.run r
        where %(search)s::boolean and r.finished_at is null and r.ending is null
          and r.run_id >= %(from_id)s::uuid and r.run_id > %(after)s::uuid
          and (%(status)s::text is null or r.status = %(status)s) and FITS(r)
        order by r.run_id
        limit %(limit)s)
       union all
       (select r.run_id, r.context_version, r.context_place, false
        from cnstra.run r
        where %(search)s::boolean and r.finished_at is null and r.ending is not null and r.run_id > %(after)s::uuid
          and (%(status)s::text is null or r.status = %(status)s) and FITS(r)
        order by r.run_id
        limit %(limit)s)
       union all
       (select r.run_id, r.context_version, r.context_place, true
        from unnest(%(ends)s::text[]) s (status)
        cross join (values (true), (false)) c (kept)
        cross join lateral (select e.* from cnstra.run e
                            where e.status = s.status and e.context_kept = c.kept
                              and e.finished_at is not null and e.finished_at >= %(ended_since)s::timestamptz
                            offset 0) r       -- or the ids would tempt the planner to read all of them
        where %(search)s::boolean and r.run_id > %(after)s::uuid and FITS(r)
        order by r.run_id
        limit %(limit)s)) f
 order by f.run_id
 limit %(limit)s)

-- == contexts from outside ==

-- name: find_context
-- The version of a run's context, whether it is kept, and where, if there is such a run.
select r.context_version, r.context_kept, r.context_place from cnstra.run r where r.run_id = %(run_id)s

-- name: lock_context
-- Lock a run, to write its context. Everything else is read by later statements, under the lock.
select r.context_version, r.context_kept, r.context_place from cnstra.run r where r.run_id = %(run_id)s for no key update

-- name: insert_outside_entries
-- Write slots of a run's context that no activation of it wrote.
insert into cnstra.context_entry (run_id, version, slot, value, outside_at)
select %(run_id)s, %(version)s, n.slot, n.text, %(now)s
from unnest(%(slots)s::text[], %(texts)s::jsonb[]) n (slot, text)

-- name: raise_version
-- Say in a locked run that its context was written.
update cnstra.run set context_version = %(version)s where run_id = %(run_id)s

-- name: read_free_context
-- A context of no run; one that has expired is not there. Its values are read only where they are wanted.
select f.version, case when %(values)s then f.data::text end, case when %(values)s then f.sealed end
from cnstra.free_context f
where f.context_id = %(context_id)s and (f.expires_at is null or f.expires_at > (select CLOCK()))

-- name: make_free_context
-- Write a context of no run, whether it is there or not; with `expected` 0 only if it is not. Nothing remains of one that
-- was swept, so versions begin at the microseconds since 1970: above all that were given before.
insert into cnstra.free_context as f (context_id, version, data, sealed, updated_at, expires_at)
select %(context_id)s, (extract(epoch from t.now) * 1000000)::bigint, %(data)s::jsonb, %(sealed)s::bytea, t.now,
       t.now + %(lives)s::interval
from (select CLOCK() as now) t
on conflict (context_id) do update
set version = f.version + 1, data = excluded.data, sealed = excluded.sealed, updated_at = excluded.updated_at,
    expires_at = excluded.expires_at
where %(expected)s::bigint is null or f.expires_at <= (select CLOCK())
returning f.version

-- name: change_free_context
-- Write a context of no run if its version is still the expected one, and it has not expired.
update cnstra.free_context f
set version = f.version + 1, data = %(data)s::jsonb, sealed = %(sealed)s::bytea, updated_at = t.now,
    expires_at = t.now + %(lives)s::interval
from (select CLOCK() as now) t
where f.context_id = %(context_id)s and f.version = %(expected)s::bigint
  and (f.expires_at is null or f.expires_at > (select CLOCK()))
returning f.version

-- == retention ==

-- name: lock_retention
-- Since when what has ended may go, by the rules; a day is 24 hours, also where clocks are put back. The rules stay as they
-- are until the transaction ends: who makes one longer knows, when that returns, that nothing goes by the old one any more.
select k.what, CLOCK() - make_interval(secs => extract(epoch from k.keep)::float8) from cnstra.retention k
order by k.what
for share

-- name: retention
-- The rules.
select k.what, k.keep from cnstra.retention k

-- name: set_retention
-- Change rules.
update cnstra.retention k
set keep = n.keep
from unnest(%(whats)s::text[], %(keeps)s::interval[]) n (what, keep)
where k.what = n.what

-- name: count_ended
-- How many runs of a status ended before a moment.
select count(*)
from cnstra.run r
where r.status = %(status)s and r.context_kept = any(%(kept)s::boolean[]) and r.finished_at < %(before)s and r.outstanding = 0

-- name: lock_ended
-- Lock runs of a status that ended before a moment, those first that ended first, and say how many rows hang on each.
-- What somebody else has locked is passed over: it is being retried, or pruned.
select c.run_id, c.size
from unnest(%(kept)s::boolean[]) k (context_kept)
cross join lateral (
    select r.run_id, r.finished_at, r.last_activation + r.context_version as size
    from cnstra.run r
    where r.status = %(status)s and r.context_kept = k.context_kept and r.finished_at < %(before)s and r.outstanding = 0
    order by r.finished_at
    limit %(limit)s
    for update skip locked) c
order by c.finished_at
limit %(limit)s

-- name: forget_runs
-- Delete locked runs with all that belongs to them, every key included that answers with them: a key that stayed alone could
-- neither be found nor taken again. Whoever submits one meanwhile waits until this is decided.
with submission_keys as (delete from cnstra.submission_key where run_id = any(%(run_ids)s)),
activations as (delete from cnstra.activation where run_id = any(%(run_ids)s)),
tries as (delete from cnstra.try where run_id = any(%(run_ids)s)),
entries as (delete from cnstra.context_entry where run_id = any(%(run_ids)s)),
heads as (delete from cnstra.context_head where run_id = any(%(run_ids)s)),
expectations as (delete from cnstra.expectation where run_id = any(%(run_ids)s)),
letters as (delete from cnstra.letter where run_id = any(%(run_ids)s)),
groups as (delete from cnstra.scatter where run_id = any(%(run_ids)s)),
members as (delete from cnstra.member where run_id = any(%(run_ids)s))
delete from cnstra.run r
where r.run_id = any(%(run_ids)s) and r.finished_at is not null and r.outstanding = 0
returning r.run_id

-- name: forget_contexts
-- Delete the contexts of locked runs that are final, with their history; the version that they had stays with the run.
with entries as (delete from cnstra.context_entry where run_id = any(%(run_ids)s)),
heads as (update cnstra.context_head set heads = '{}', expired_at = CLOCK() where run_id = any(%(run_ids)s))
update cnstra.run r
set context_kept = false
where r.run_id = any(%(run_ids)s) and r.status in ('completed', 'compensated', 'cancelled')
returning r.run_id

-- name: sweep_posted
-- Delete signals that were sent by key before a moment, taken or not, the oldest first.
delete from cnstra.posted p
where (p.graph, p.key, p.number) in (
    select o.graph, o.key, o.number from cnstra.posted o
    where o.sent_at < %(before)s
    order by o.sent_at
    limit %(limit)s
    for update skip locked)
returning p.number

-- name: sweep_free_contexts
-- Delete contexts of no run that have expired, the oldest first. What somebody is writing is alive again, and passed over.
delete from cnstra.free_context f
where f.context_id = any(array(
    select e.context_id from cnstra.free_context e
    where e.expires_at <= (select CLOCK())
    order by e.expires_at
    limit %(limit)s
    for update skip locked))
returning f.context_id
