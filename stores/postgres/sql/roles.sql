-- What the group roles of `cnstra migrate --roles` may do; the rest is the owner's. WORKER, CLIENT and READER stand for their names.
-- Each table and view has a line for each role, also where that is nothing: a test compares with the schema. May be repeated;
-- every migration does it anew for the roles that are there.

do $$
declare
    missing text;
begin
    for missing in
        select name from unnest(array['WORKER', 'CLIENT', 'READER']) name where name not in (select rolname from pg_roles)
    loop
        begin
            execute format('create role %I nologin', missing);
        exception when duplicate_object or unique_violation then null;  -- roles are the whole server's: somebody else was first
        end;
    end loop;
end $$;

revoke all on schema cnstra from public;
revoke all on all tables in schema cnstra from public, WORKER, CLIENT, READER;
revoke all on all sequences in schema cnstra from public, WORKER, CLIENT, READER;
revoke all on all routines in schema cnstra from public, WORKER, CLIENT, READER;
grant usage on schema cnstra to WORKER, CLIENT, READER;

-- The views: everybody. They show what their owner may see.
grant select on cnstra.runs to WORKER, CLIENT, READER;
grant select on cnstra.activations to WORKER, CLIENT, READER;
grant select on cnstra.tries to WORKER, CLIENT, READER;
grant select on cnstra.context to WORKER, CLIENT, READER;
grant select on cnstra.context_history to WORKER, CLIENT, READER;
grant select on cnstra.context_blobs to WORKER, CLIENT, READER;
grant select on cnstra.workers to WORKER, CLIENT, READER;
grant select on cnstra.queue_depth to WORKER, CLIENT, READER;
grant select on cnstra.graph_queue_depth to WORKER, CLIENT, READER;
grant select on cnstra.expectations to WORKER, CLIENT, READER;
grant select on cnstra.scatters to WORKER, CLIENT, READER;

-- Which release the schema is of: everybody looks before anything else.
grant select on cnstra.migration to WORKER, CLIENT, READER;

-- What clients write: runs begin, and change by retry, cancel, pause, send and clone. They delete nothing but what a run waits
-- for. Workers, besides, delete what is no longer kept.
grant select, insert, update, delete on cnstra.run to WORKER;
grant select, insert, update on cnstra.run to CLIENT;
grant select, insert, update, delete on cnstra.submission_key to WORKER;
grant select, insert on cnstra.submission_key to CLIENT;
grant select, insert, update, delete on cnstra.activation to WORKER;
grant select, insert, update on cnstra.activation to CLIENT;
grant select, insert, delete on cnstra.try to WORKER;
grant select, insert on cnstra.try to CLIENT;
grant select, insert, update, delete on cnstra.context_head to WORKER;
grant select, insert, update on cnstra.context_head to CLIENT;
grant select, insert, delete on cnstra.context_entry to WORKER;
grant select, insert on cnstra.context_entry to CLIENT;
grant select, insert, delete on cnstra.context_litter to WORKER;
grant select, insert on cnstra.context_litter to CLIENT;
grant select, insert, update, delete on cnstra.free_context to WORKER;
grant select, insert, update on cnstra.free_context to CLIENT;
grant select, insert, delete on cnstra.expectation to WORKER;
grant select, insert, delete on cnstra.expectation to CLIENT;
grant select, insert, update, delete on cnstra.letter to WORKER;
grant select, insert, update on cnstra.letter to CLIENT;
grant select, insert, update, delete on cnstra.posted to WORKER;
grant select, insert, update on cnstra.posted to CLIENT;
grant select, insert, update, delete on cnstra.scatter to WORKER;
grant select, insert, update on cnstra.scatter to CLIENT;
grant select, insert, update, delete on cnstra.member to WORKER;
grant select, insert, update on cnstra.member to CLIENT;

-- What says which rows are sound, for who writes them.
grant execute on function cnstra.run_is_sound to WORKER, CLIENT;
grant execute on function cnstra.activation_is_sound to WORKER, CLIENT;
revoke all on function cnstra.run_is_sound from READER;
revoke all on function cnstra.activation_is_sound from READER;

-- What only workers write; clients look, for cnstra doctor.
grant select, insert, update, delete on cnstra.worker to WORKER;
grant select on cnstra.worker to CLIENT;
grant select, update on cnstra.supervisor to WORKER;
grant select on cnstra.supervisor to CLIENT;

-- The rules of what is kept for how long are the owner's. Workers lock them while they follow them, for which the right to change a
-- column is needed: of its key, which has no other value to take.
grant select, update (what) on cnstra.retention to WORKER;
grant select on cnstra.retention to CLIENT;

-- Readers see no table.
revoke all on cnstra.run from READER;
revoke all on cnstra.submission_key from READER;
revoke all on cnstra.activation from READER;
revoke all on cnstra.try from READER;
revoke all on cnstra.context_head from READER;
revoke all on cnstra.context_entry from READER;
revoke all on cnstra.context_litter from READER;
revoke all on cnstra.free_context from READER;
revoke all on cnstra.expectation from READER;
revoke all on cnstra.letter from READER;
revoke all on cnstra.posted from READER;
revoke all on cnstra.scatter from READER;
revoke all on cnstra.member from READER;
revoke all on cnstra.worker from READER;
revoke all on cnstra.supervisor from READER;
revoke all on cnstra.retention from READER;
