-- Sagas: runs that are paused, cancelled, too late, and undone by compensations.

alter table cnstra.run
    add column ending           text check (ending in ('cancelled', 'failed')),  -- set once no claim of its work begins any more
    add column undoable         integer not null default 0 check (undoable >= 0),
    add column uncertain        integer not null default 0 check (uncertain between 0 and undoable),
    add column undone           integer not null default 0,
    add column undo_error       text,
    add column undo_error_type  text;

create index run_by_deadline on cnstra.run (deadline_at)
    where deadline_at is not null and finished_at is null and ending is null and status <> 'paused';   -- find_deadlines_due

-- What is due of paused runs is in nobody's way.
drop index cnstra.run_by_next_retry;
create index run_by_next_retry on cnstra.run (next_retry_at)
    where next_retry_at is not null and status = 'waiting';                                            -- find_attempts_due

alter table cnstra.activation
    add column compensable     text not null default '' check (compensable in ('', 'done', 'uncertain')),
    add column undoable        boolean not null default false,   -- to be compensated when the run is undone
    add column undo            boolean not null default false,   -- what is called is its compensation
    add column done_at         timestamptz,                      -- when it had finished, once it is being undone
    add column version_undone  bigint;                           -- the context's version that its compensation wrote

create index activation_undoable on cnstra.activation (run_id, finish) where undoable;    -- undo

alter table cnstra.try
    add column undo boolean not null default false,
    alter column error drop not null,               -- null: the call that the compensation undoes
    alter column error_type drop not null;

drop index cnstra.activation_unknown;
create index activation_unknown on cnstra.activation
    (graph, queue, pin, place, (neuron || chr(31) || collateral || case when undo then chr(31) || 'undo' else '' end), run_id, activation_id)
    where blocked = 'unknown';                                         -- readmit_known

-- Activations that wait: for a signal from outside, or for the end of a group.

alter table cnstra.run
    add column last_letter integer not null default 0,
    add column last_group  integer not null default 0;

alter table cnstra.activation
    add column origin   text not null default '' check (origin in ('', 'awaited', 'gather')),  -- '': its parent emitted its signal
    add column path     integer[],                 -- the groups and members that it is part of: group, member, …, the innermost last
    add column gathers  integer,                   -- the group whose results it is called with
    add column handled  boolean not null default false;   -- it has failed, and a gather takes that

create table cnstra.expectation (
    run_id          uuid not null,
    expectation_id  integer not null,              -- the first of its activations
    graph           text not null,
    collateral      text not null,                 -- what is awaited
    key             text,                          -- by which it is found from outside
    activations     integer[] not null,            -- what the signal starts
    expires_at      timestamptz,
    late            jsonb not null,                -- what starts, and is emitted, when nothing comes in time
    primary key (run_id, expectation_id)
);

create index expectation_by_collateral on cnstra.expectation (run_id, collateral, expectation_id);             -- load_expectations
create index expectation_by_key on cnstra.expectation (graph, key, collateral, run_id) where key is not null;   -- find_expecting
create index expectation_by_expiry on cnstra.expectation (expires_at) where expires_at is not null;             -- find_expectations_due

create table cnstra.letter (
    run_id           uuid not null,
    number           integer not null,             -- the order of sending
    collateral       text not null,
    payload          jsonb not null,
    idempotency_key  text not null,
    sent_at          timestamptz not null,
    taken_by         integer,                      -- the expectation that it fed
    primary key (run_id, number)
);

create unique index letter_by_idempotency_key on cnstra.letter (run_id, idempotency_key);   -- known_letters
create index letter_waiting on cnstra.letter (run_id, collateral, number) where taken_by is null;   -- load_letters

create table cnstra.posted (
    graph            text not null,
    key              text not null,                -- who expects it names the same
    number           bigint generated always as identity,
    collateral       text not null,
    payload          jsonb not null,
    idempotency_key  text not null,
    sent_at          timestamptz not null,
    run_id           uuid,                         -- the run that it was given to
    primary key (graph, key, number)
);

create unique index posted_by_idempotency_key on cnstra.posted (graph, key, idempotency_key);   -- find_posted, insert_posted
create index posted_by_age on cnstra.posted (sent_at);   -- sweep_posted

create table cnstra.scatter (
    run_id          uuid not null,
    group_id        integer not null,
    parent          integer not null,              -- the activation that scattered
    ordinal         integer not null,
    collateral      text not null,                 -- what is scattered
    size            integer not null,
    most            integer,                       -- members at once
    path            integer[],                     -- the groups and members that the scatter is part of
    targets         jsonb not null,                -- what each member starts
    gathers         jsonb not null,                -- who is called with the results
    started         integer not null,
    running         integer not null,              -- members of which something is outstanding
    ended           integer not null,
    closed          boolean not null default false,
    primary key (run_id, group_id)
) with (fillfactor = 80);

create table cnstra.member (
    run_id       uuid not null,
    group_id     integer not null,
    member       integer not null,
    outstanding  integer not null default 0 check (outstanding >= 0),
    failed       integer not null default 0 check (failed >= 0),
    ended        boolean not null default false,
    payload      jsonb,                            -- where it is needed later
    results      jsonb,                            -- by collateral
    failure      jsonb,
    primary key (run_id, group_id, member)
) with (fillfactor = 70);

alter table cnstra.retention drop constraint retention_what_check;
alter table cnstra.retention add check (what in ('completed', 'failed', 'compensated', 'cancelled', 'context', 'sent'));
insert into cnstra.retention (what, keep) values ('sent', '30 days');   -- signals that were sent by key

-- What large groups cost: groups within a member that has failed are closed with it, found by the path that leads into the
-- member; and what an activation started is found without looking at all of its run.

create index activation_gathers on cnstra.activation (run_id, path) where status = 'waiting' and gathers is not null;   -- abandon
create index scatter_open on cnstra.scatter (run_id, path) where not closed and path is not null;                       -- abandon
create index activation_by_parent on cnstra.activation (run_id, parent_activation_id)
    where parent_activation_id is not null;                        -- emitted, children_held

-- Clones of runs, and runs that have not ended, to do something to many of them.

alter table cnstra.run
    add column deadline_after  interval,          -- the deadline, where it was given as a time from the submit: clones have it, too
    add column cloned_from     uuid;              -- the run whose entry signal this one repeats; it may have been pruned since

create index run_open on cnstra.run (run_id) where finished_at is null and ending is null;   -- open_runs
