-- What the end of an activation writes to the log: what lies between the first and the last byte that differ. So all that it changes
-- stands side by side, with the status last: in new databases, which have no views yet. Elsewhere all rows would have to be written anew,
-- and what people have made of the views would be gone; it is the same wherever it stands.
do $$
declare
    definitions text[];
    definition text;
begin
    if to_regclass('cnstra.activations') is null and not exists (select from cnstra.activation) then
        -- Of a partitioned table an index is told as one of that table only: each partition is to have it.
        definitions := array(select replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') from pg_index
                             where indrelid = 'cnstra.activation'::regclass and pg_get_indexdef(indexrelid) ~ '\mstatus\M');
        alter table cnstra.activation drop column status;
        alter table cnstra.activation add column status text not null;
        foreach definition in array definitions loop
            execute definition;
        end loop;
        alter table cnstra.activation add constraint activation_is_sound check (
            cnstra.activation_is_sound(status, blocked, compensable, origin, epoch, nonce, worker, finished_at));
    end if;
end $$;

-- On a page that is half full the ends of all its rows find room: nobody has to look for another page, and lock.
do $$
declare
    leaf regclass;
begin
    for leaf in
        select c.oid
        from pg_class c
        left join pg_inherits i on i.inhrelid = c.oid
        where coalesce(i.inhparent, c.oid) = 'cnstra.activation'::regclass and c.relkind = 'r'
    loop
        execute format('alter table %s set (fillfactor = 50)', leaf);
    end loop;
end $$;
