-- Groups within a member that has failed are closed with it: found by the path that leads into the member.

create index activation_gathers on cnstra.activation (run_id, path) where status = 'waiting' and gathers is not null;   -- abandon
create index scatter_open on cnstra.scatter (run_id, path) where not closed and path is not null;                       -- abandon
