-- Runs, their activations, their versioned context, and the workers that hold leases.
--
-- Tables of runs are keyed first by run_id (a UUIDv7, so neighbours in time are neighbours on disk). They are internal:
-- what users and dashboards read are the views of views.sql.

create table cnstra.run (
    run_id            uuid primary key,
    graph             text not null,
    graph_version     text not null,
    pinned            boolean not null,           -- only workers that have exactly this version may run it
    entry_collateral  text not null,
    entry_payload     jsonb not null,
    status            text not null check (status in ('running', 'waiting', 'paused', 'compensating',
                                                      'completed', 'failed', 'compensated', 'cancelled')),
    attempt           integer not null default 1 check (attempt >= 1),
    outstanding       integer not null check (outstanding >= 0),
    active            integer not null check (active between 0 and outstanding),
    failed            integer not null default 0 check (failed >= 0),
    last_activation   integer not null,
    last_finish       integer not null default 0,
    context_version   bigint not null default 0,
    priority          integer not null default 0,
    alone             integer,                    -- the activation that runs alone among the run's writers
    revive_after      double precision,
    gave_up           boolean not null default false,
    idled             double precision not null default 0,
    policy            jsonb,
    tags              jsonb not null default '{}',
    idempotency_key   text,
    error             text,
    error_type        text,
    submitted_at      timestamptz not null,
    started_at        timestamptz,
    finished_at       timestamptz,
    next_retry_at     timestamptz,
    deadline_at       timestamptz,
    gate              text,
    parent_run_id     uuid,
    context_kept      boolean not null default true,   -- false once retention has taken the context
    context_place     text,                       -- the store of the user's own that keeps the context; null: this one
    check ((finished_at is not null) = (status in ('completed', 'failed', 'compensated', 'cancelled')))
) with (fillfactor = 80);

create index run_by_next_retry on cnstra.run (next_retry_at) where next_retry_at is not null;   -- find_attempts_due
create index run_failed on cnstra.run (run_id) where status = 'failed';                         -- failed_runs, run_rows
create index run_by_tag on cnstra.run using gin (tags jsonb_path_ops) where tags <> '{}';       -- run_rows
create index run_ended on cnstra.run (status, context_kept, finished_at) where finished_at is not null;   -- lock_ended, count_ended

create table cnstra.submission_key (
    graph   text not null,
    key     text not null,
    run_id  uuid not null,
    primary key (graph, key)
);

create index submission_key_run on cnstra.submission_key (run_id);   -- forget_runs

create table cnstra.activation (
    run_id               uuid not null,
    activation_id        integer not null,
    parent_activation_id integer,
    ordinal              integer not null,        -- the signal's place among what the parent emitted
    graph                text not null,
    pin                  text not null,           -- the graph version that alone may run it; '' where any may
    place                text not null default '', -- the run's context_place: only workers with that store may run it; or ''
    neuron               text not null,
    dendrite             text not null,
    collateral           text not null,
    payload              jsonb not null,
    queue                text not null,
    priority             integer not null,
    attempt              integer not null,
    status               text not null check (status in ('ready', 'running', 'scheduled', 'waiting',
                                                         'done', 'failed', 'cancelled', 'compensated')),
    blocked              text check (blocked in ('alone', 'unknown', 'limited', 'paused', 'suspect')),
    epoch                integer not null default 0,
    nonce                bigint,                  -- of the claim; null once the claim was taken away
    worker               uuid,
    tries                integer not null default 0,
    failures             integer not null default 0,
    idled                double precision not null default 0,
    conflicts            integer not null default 0,
    crashes              integer not null default 0,
    created_at           timestamptz not null,
    available_at         timestamptz not null,
    first_try_at         timestamptz,             -- of this attempt
    started_at           timestamptz,
    finished_at          timestamptz,
    finish               integer,                 -- the order of finishing, counted by the run
    version_read         bigint,
    version_written      bigint,
    outputs              jsonb,                   -- the emitted signals that nobody hears
    error                text,
    error_type           text,
    group_id             integer,
    progress             jsonb,
    primary key (run_id, activation_id),
    check ((finished_at is not null) = (status in ('done', 'failed', 'cancelled', 'compensated'))),
    check (status <> 'running' or (nonce is not null and worker is not null and epoch > 0))
) with (fillfactor = 85);

create index activation_ready on cnstra.activation (graph, queue, pin, place, priority desc, available_at)
    where status = 'ready' and blocked is null;                        -- claim, find_unclaimed, set_unknown_aside
create index activation_scheduled on cnstra.activation (available_at) where status = 'scheduled'; -- find_due
create index activation_running on cnstra.activation (worker) where status = 'running';         -- renew, claims_of_nonce, lost_claims, forget_lost
create index activation_suspect on cnstra.activation (graph, queue, pin, place, priority desc, available_at)
    where status = 'ready' and blocked = 'suspect';                    -- claim_suspects, suspects_wait, find_suspects
create index activation_unknown on cnstra.activation (graph, queue, pin, place, (neuron || chr(31) || collateral), run_id, activation_id)
    where blocked = 'unknown';                                         -- readmit_known

create table cnstra.try (
    run_id           uuid not null,
    activation_id    integer not null,
    try_number       integer not null,
    worker           uuid,
    started_at       timestamptz,
    finished_at      timestamptz not null,
    error            text not null,
    error_type       text not null,
    error_traceback  text,
    primary key (run_id, activation_id, try_number)
);

create table cnstra.context_head (
    run_id      uuid primary key,
    version     bigint not null,
    heads       jsonb not null,                   -- slot -> its newest version, negative where it was removed
    updated_at  timestamptz not null,
    expired_at  timestamptz                       -- when retention took it; heads is empty since then
) with (fillfactor = 80);

create table cnstra.context_entry (
    run_id         uuid not null,
    version        bigint not null,
    slot           text not null,
    activation_id  integer,                       -- null: written from outside of the run
    value          jsonb,                         -- null: removed; where the run has a context_place: a blob's key there
    outside_at     timestamptz,                   -- when that was; what activations wrote is as old as their end
    primary key (run_id, version, slot),
    check ((activation_id is null) = (outside_at is not null))
);

create table cnstra.context_litter (
    place     text not null,
    key       text not null,                      -- of a blob that no run refers to; it begins with its run's id
    noted_at  timestamptz not null,
    primary key (place, key)
);

create table cnstra.free_context (
    context_id  uuid primary key,
    version     bigint not null,
    data        jsonb,                            -- both null: deleted
    sealed      bytea,                            -- what another codec than JSON made
    updated_at  timestamptz not null,
    expires_at  timestamptz,
    check (data is null or sealed is null)
);

create index free_context_by_expiry on cnstra.free_context (expires_at) where expires_at is not null;   -- sweep_free_contexts

create table cnstra.worker (
    worker         uuid primary key,
    host           text not null,
    pid            integer not null,
    graph          text not null,
    graph_version  text not null,
    queues         text[] not null,
    dendrites      text[] not null,
    places         text[] not null default '{""}', -- where it reaches contexts; '' is this database
    lease          interval not null,
    started_at     timestamptz not null,
    last_seen_at   timestamptz not null,
    expires_at     timestamptz not null,
    lost_at        timestamptz
) with (fillfactor = 50);

create table cnstra.supervisor (
    one     boolean primary key default true check (one),
    worker  uuid,
    until   timestamptz not null
) with (fillfactor = 50);

insert into cnstra.supervisor (until) values ('-infinity');

create table cnstra.retention (
    what  text primary key check (what in ('completed', 'failed', 'compensated', 'cancelled', 'context')),
    keep  interval check (keep between '1 minute' and '36525 days')   -- null: for ever; a context: as long as its run
);

insert into cnstra.retention (what, keep)
values ('completed', '30 days'), ('failed', null), ('compensated', '90 days'), ('cancelled', '90 days'), ('context', null);
