-- What large groups cost: groups within a member that has failed are closed with it, found by the path that leads into the
-- member; and what an activation started is found without looking at all of its run.

create index activation_gathers on cnstra.activation (run_id, path) where status = 'waiting' and gathers is not null;   -- abandon
create index scatter_open on cnstra.scatter (run_id, path) where not closed and path is not null;                       -- abandon
create index activation_by_parent on cnstra.activation (run_id, parent_activation_id);                                  -- emitted, children_held, activation_rows
