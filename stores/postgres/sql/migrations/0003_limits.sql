-- Limits of neurons, held across all workers. Slots are not stored: those in use are the rows that are running.

alter table cnstra.activation
    add column limited boolean not null default false;               -- its neuron had a limit when it began; see blocked = 'limited'

alter table cnstra.worker
    add column limits jsonb not null default '{}';                    -- by neuron, as its code says

create index activation_limited on cnstra.activation
    (graph, (neuron || chr(31) || collateral || case when undo then chr(31) || 'undo' else '' end), queue, pin, place, priority desc, available_at)
    where status = 'ready' and blocked = 'limited';                    -- lock_limits, claim_with_limits, find_limited, lift_limits, find_suspects
create index activation_in_limit on cnstra.activation (graph, neuron)
    where status = 'running' and limited;                              -- lock_limits, claim_with_limits, claim_suspects, suspects_wait, find_limited
