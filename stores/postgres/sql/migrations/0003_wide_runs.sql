-- Runs of many activations: what asks for some of them does not read all.

create index activation_by_parent on cnstra.activation (run_id, parent_activation_id)
    where parent_activation_id is not null;                        -- emitted, children_held
