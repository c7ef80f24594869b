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
