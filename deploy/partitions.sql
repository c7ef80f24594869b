-- Makes the tables of runs partitioned by time, a month each. For a new database, between two migrations:
--
--     cnstra migrate && psql "$CNSTRA_DATABASE_URL" -v ON_ERROR_STOP=1 -1 -f deploy/partitions.sql && cnstra migrate
--
-- Run ids are UUIDv7 and begin with the time at which the run was submitted. All tables of runs are keyed by them first, so a
-- run is in one month's partitions, whatever becomes of it and whenever. The second migration lays the views over the new tables.

do $$
declare
    whole text;
    options text;
    definitions text[];                            -- of its indexes, under their own names: migrations that follow know these
    definition text;
begin
    if exists (select from cnstra.run) then
        raise exception 'cnstra.run holds runs: partitions are made of empty tables';
    end if;
    for whole in
        select c.relname
        from pg_class c
        join pg_index i on i.indrelid = c.oid and i.indisprimary
        join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] and a.attname = 'run_id'
        where c.relnamespace = 'cnstra'::regnamespace and c.relkind = 'r'
    loop
        select coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', ''),
               array(select case when i.indisprimary
                                 then format('alter table cnstra.%I add constraint %I ', whole, k.relname) || pg_get_constraintdef(p.oid)
                                 else pg_get_indexdef(i.indexrelid) end
                     from pg_index i
                     join pg_class k on k.oid = i.indexrelid
                     left join pg_constraint p on p.conindid = i.indexrelid and p.contype = 'p'
                     where i.indrelid = c.oid)
        into options, definitions
        from pg_class c where c.oid = format('cnstra.%I', whole)::regclass;
        execute format('alter table cnstra.%1$I rename to %2$I', whole, whole || '_whole');
        execute format('create table cnstra.%1$I (like cnstra.%2$I including all excluding indexes) partition by range (run_id)',
                       whole, whole || '_whole');
        execute format('drop table cnstra.%1$I cascade', whole || '_whole');
        foreach definition in array definitions loop
            execute definition;
        end loop;
        execute format('create table cnstra.%2$I partition of cnstra.%1$I default', whole, whole || '_other') || options;
    end loop;
end $$;

-- The least id of a moment.
create function cnstra.first_id(moment timestamptz) returns uuid language sql immutable as
$$ select rpad(lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid $$;

-- Partitions of the month of a day, where there are none. Make them ahead: what is in no month's goes to the tables "…_other", and
-- no partition can be made for it any more.
create function cnstra.add_month(day date) returns void language plpgsql as
$$
declare
    whole text;
    options text;
    month timestamptz := date_trunc('month', day::timestamp) at time zone 'UTC';
begin
    for whole in select relname from pg_class where relnamespace = 'cnstra'::regnamespace and relkind = 'p'
    loop
        select coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '') into options
        from pg_class c where c.oid = format('cnstra.%I', whole || '_other')::regclass;
        execute format(
            'create table if not exists cnstra.%1$I partition of cnstra.%2$I for values from (%3$L) to (%4$L)',
            format('%s_%s', whole, to_char(month at time zone 'UTC', 'YYYY_MM')), whole, cnstra.first_id(month),
            cnstra.first_id((month at time zone 'UTC' + interval '1 month') at time zone 'UTC')) || options;
    end loop;
end $$;

select cnstra.add_month((date_trunc('month', now() at time zone 'UTC') + n * interval '1 month')::date) from generate_series(0, 12) n;
