-- What a hop writes: less.

-- The child of a hop that begins one activation while nothing else of its run begins has the number after its parent's, and is found
-- by that. The index is for all other children; each entry of it is written again with each claim and each end.
drop index cnstra.activation_by_parent;
create index activation_by_parent on cnstra.activation (run_id, parent_activation_id)
    where parent_activation_id <> activation_id - 1;                   -- emitted, children_held

-- An end that finds room on the page of its beginning writes what differs; on another page it writes the whole row, and a lock.
-- Of tables that deploy/partitions.sql has made, the partitions.
do $$
declare
    leaf regclass;
begin
    for leaf in
        select c.oid
        from pg_class c
        left join pg_inherits i on i.inhrelid = c.oid
        where coalesce(i.inhparent, c.oid) in ('cnstra.activation'::regclass, 'cnstra.run'::regclass) and c.relkind = 'r'
    loop
        execute format('alter table %s set (fillfactor = 60)', leaf);
    end loop;
end $$;
