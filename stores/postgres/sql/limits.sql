-- Limits of neurons: how many activations of one may run at once, over all workers. No slot is stored; slots in use are
-- counted from the rows that are running, so that whatever ends a claim frees its slot, and none can leak.
--
-- All claims of limited work of a neuron are made under an advisory lock of that neuron, which ends with their transaction.
-- The lock is taken by one statement and the counting done by the next: one that counted while it took the lock would
-- count from before the lock, and not see what its last holder has claimed.

-- == claiming ==

-- name: lock_limits
-- Take the limits of neurons of which something waits and may run, as far as can be seen from here. Those that somebody else
-- has are left to him: nobody waits for a limit.
with wanted as materialized (
    select n.neuron
    from unnest(%(neurons)s::text[], %(most)s::int[]) n (neuron, most)
    where n.most > (select count(*) from cnstra.activation r
                    where r.status = 'running' and r.limited and r.graph = %(graph)s and r.neuron = n.neuron)
      and exists (
          select
          from unnest(%(skills)s::text[], %(skill_neurons)s::text[]) s (skill, neuron)
          cross join unnest(%(queues)s::text[]) q (queue)
          cross join unnest(array['', %(graph_version)s::text]) p (pin)
          cross join unnest(%(places)s::text[]) l (place)
          cross join lateral (
              select from cnstra.activation a
              where a.status = 'ready' and a.blocked = 'limited' and a.graph = %(graph)s and SKILL(a) = s.skill
                and a.queue = q.queue and a.pin = p.pin and a.place = l.place
              limit 1) a
          where s.neuron = n.neuron))
select w.neuron, pg_try_advisory_xact_lock(hashtextextended(%(graph)s || chr(31) || w.neuron, 1))
from wanted w

-- name: lock_all_limits
-- The same, whatever waits: of neurons of which a suspect may.
select n.neuron, pg_try_advisory_xact_lock(hashtextextended(%(graph)s || chr(31) || n.neuron, 1))
from unnest(%(neurons)s::text[]) n (neuron)

-- name: claim_with_limits
-- The same as claim, and beside it work of neurons whose limits are held, as much of each as its limit leaves: all of it by
-- priority, then by age. What is limited is found by what its worker must know, so that nobody reads over what nobody knows.
with room as materialized (
    select n.neuron, n.most - (select count(*) from cnstra.activation r
                               where r.status = 'running' and r.limited and r.graph = %(graph)s and r.neuron = n.neuron) as free
    from unnest(%(neurons)s::text[], %(most)s::int[]) n (neuron, most)),
candidate as materialized (
    select c.run_id, c.activation_id
    from (select o.run_id, o.activation_id, o.priority, o.available_at
          from unnest(%(queues)s::text[]) q (queue)
          cross join unnest(array['', %(graph_version)s::text]) p (pin)
          cross join unnest(%(places)s::text[]) l (place)
          cross join lateral (
              select a.run_id, a.activation_id, a.priority, a.available_at
              from cnstra.activation a
              where a.status = 'ready' and a.blocked is null and a.graph = %(graph)s and a.queue = q.queue and a.pin = p.pin
                and a.place = l.place and SKILL(a) = any(%(dendrites)s::text[])
              order by a.priority desc, a.available_at
              limit %(limit)s
              for no key update skip locked) o
          union all
          select k.run_id, k.activation_id, k.priority, k.available_at
          from room m
          cross join lateral (
              select f.run_id, f.activation_id, f.priority, f.available_at
              from unnest(%(skills)s::text[], %(skill_neurons)s::text[]) s (skill, neuron)
              cross join unnest(%(queues)s::text[]) q (queue)
              cross join unnest(array['', %(graph_version)s::text]) p (pin)
              cross join unnest(%(places)s::text[]) l (place)
              cross join lateral (
                  select a.run_id, a.activation_id, a.priority, a.available_at
                  from cnstra.activation a
                  where a.status = 'ready' and a.blocked = 'limited' and a.graph = %(graph)s and SKILL(a) = s.skill
                    and a.queue = q.queue and a.pin = p.pin and a.place = l.place
                  order by a.priority desc, a.available_at
                  limit least(m.free, %(limit)s)
                  for no key update skip locked) f
              where s.neuron = m.neuron
              order by f.priority desc, f.available_at
              limit least(m.free, %(limit)s)) k
          where m.free > 0) c
    order by c.priority desc, c.available_at
    limit %(limit)s)
update cnstra.activation a
set status = 'running', epoch = a.epoch + 1, nonce = %(nonce)s, worker = %(worker)s, tries = a.tries + 1, blocked = null,
    started_at = CLOCK(),
    first_try_at = case when a.failures + a.crashes + a.conflicts > 0 then coalesce(a.first_try_at, CLOCK()) else CLOCK() end
from candidate c
where a.run_id = c.run_id and a.activation_id = c.activation_id
returning CLAIMED(a)

-- == supervision ==

-- name: find_limited
-- Limited work that nobody has claimed for a while, and that a live worker could: as much of each neuron as its limit leaves,
-- so that nobody is called for what may not run yet. Where workers of several versions live the highest limit counts.
with served as materialized (
    select distinct w.graph, split_part(d.skill, chr(31), 1) as neuron, d.skill, q.queue, p.pin, l.place
    from (select distinct graph, graph_version, queues, dendrites, places, limits from cnstra.worker where lost_at is null) w
    cross join lateral unnest(w.dendrites) d (skill)
    cross join lateral unnest(w.queues) q (queue)
    cross join lateral unnest(array['', w.graph_version]) p (pin)
    cross join lateral unnest(w.places) l (place)
    where w.limits ? split_part(d.skill, chr(31), 1)),
room as materialized (
    select m.graph, m.neuron, m.most - (select count(*) from cnstra.activation r
                                        where r.status = 'running' and r.limited and r.graph = m.graph and r.neuron = m.neuron) as free
    from (select w.graph, n.neuron, max(n.most::int) as most
          from cnstra.worker w cross join lateral jsonb_each_text(w.limits) n (neuron, most)
          where w.lost_at is null
          group by w.graph, n.neuron) m)
select c.door, c.run_id, c.activation_id
from room m
cross join lateral (
    select f.door, f.run_id, f.activation_id
    from served s
    cross join lateral (
        select DOOR(a) as door, a.run_id, a.activation_id, a.priority, a.available_at
        from cnstra.activation a
        where a.status = 'ready' and a.blocked = 'limited' and a.graph = s.graph and SKILL(a) = s.skill and a.queue = s.queue
          and a.pin = s.pin and a.place = s.place and a.available_at < (select CLOCK()) - %(unclaimed_after)s::interval
        order by a.priority desc, a.available_at
        limit least(m.free, %(limit)s)) f
    where s.graph = m.graph and s.neuron = m.neuron
    order by f.priority desc, f.available_at
    limit least(m.free, %(limit)s)) c
where m.free > 0

-- name: lift_limits
-- What was begun under a limit that no live worker has any more, though one knows it, has no limit, either. While a worker
-- lives that has the limit, it is left to that one.
update cnstra.activation a
set limited = false, blocked = null
from (select distinct w.graph, d.skill, q.queue, p.pin, l.place
      from (select distinct graph, graph_version, queues, dendrites, places from cnstra.worker where lost_at is null) w
      cross join lateral unnest(w.dendrites) d (skill)
      cross join lateral unnest(w.queues) q (queue)
      cross join lateral unnest(array['', w.graph_version]) p (pin)
      cross join lateral unnest(w.places) l (place)
      where not exists (select from cnstra.worker o
                        where o.lost_at is null and o.graph = w.graph and o.limits ? split_part(d.skill, chr(31), 1))) served
cross join lateral (
    select k.run_id, k.activation_id
    from cnstra.activation k
    where k.status = 'ready' and k.blocked = 'limited' and k.graph = served.graph and SKILL(k) = served.skill
      and k.queue = served.queue and k.pin = served.pin and k.place = served.place
    order by k.priority desc, k.available_at
    limit %(limit)s
    for no key update skip locked) u
where a.run_id = u.run_id and a.activation_id = u.activation_id
returning DOOR(a), a.run_id, a.activation_id
