-- Every statement of the SQLite store, by name. The PostgreSQL store has the same names.

-- insert_event
insert into events (tenant, event_key, entity_name, action_name, entity_id, timestamp_ms, accepted_at_ms, payload)
values (?, ?, ?, ?, ?, ?, ?, ?)
on conflict do nothing;

-- latest_timestamp
-- Null where this very timestamp is free.
select max(timestamp_ms)
from events
where tenant = ?1 and entity_name = ?2 and entity_id = ?3
  and exists (
    select 1 from events where tenant = ?1 and entity_name = ?2 and entity_id = ?3 and timestamp_ms = ?4
  );

-- insert_delivery
insert into deliveries (tenant, event_key, hook_id, state, due_at_ms, lease_token, order_key)
values (?, ?, ?, 'waiting', ?, ?, ?);

-- get_idempotency_key
select fingerprint, event_keys, deliveries
from idempotency_keys
where tenant = ? and key = ?;

-- insert_idempotency_key
insert into idempotency_keys (tenant, key, fingerprint, event_keys, deliveries, created_at_ms)
values (?, ?, ?, ?, ?, ?)
on conflict do nothing;

-- hooks_revision
select revision from hooks_revision;

-- raise_hooks_revision
update hooks_revision set revision = revision + 1;

-- due
-- Jumps from hook to hook in the index, so that its cost does not grow with the backlog.
with recursive lanes (hook_id) as (
  select min(hook_id) from deliveries where due_at_ms is not null
  union all
  select (select min(d.hook_id) from deliveries d where d.due_at_ms is not null and d.hook_id > lanes.hook_id)
  from lanes
  where lanes.hook_id is not null
)
select hook_id, traffic, due_at_ms
from (
  select
    lanes.hook_id, classes.column1 as traffic,
    (
      select min(d.due_at_ms)
      from deliveries d
      where d.hook_id = lanes.hook_id and d.traffic = classes.column1 and d.due_at_ms is not null
    ) as due_at_ms
  from lanes
  cross join (values (0), (1), (2)) classes
  where lanes.hook_id is not null
)
where due_at_ms is not null;

-- select_due
-- Equal due times go in the order of acceptance: event keys are time-ordered.
select d.tenant, d.event_key, d.lease_token, d.attempts, d.failures, e.entity_name, e.action_name, e.payload
from deliveries d
join events e on e.tenant = d.tenant and e.event_key = d.event_key
where d.hook_id = ? and d.traffic = ? and d.due_at_ms is not null and d.due_at_ms <= ?
  and (
    d.order_key is null
    or not exists (
      select 1
      from deliveries earlier
      where earlier.hook_id = d.hook_id and earlier.order_key = d.order_key and earlier.event_key < d.event_key
        and earlier.state in ('waiting', 'exhausted')
    )
  )
order by d.due_at_ms, d.event_key
limit ?;

-- lease
update deliveries
set due_at_ms = ?, lease_token = ?, attempts = ?
where tenant = ? and event_key = ? and hook_id = ?;

-- renew
update deliveries
set due_at_ms = ?
where tenant = ? and event_key = ? and hook_id = ? and lease_token = ?;

-- settle
with settled (
  state, due_at_ms, attempts, failures, settled_at_ms, reason, tenant, event_key, hook_id, lease_token
) as (
  values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
)
update deliveries
set state = settled.state, due_at_ms = settled.due_at_ms, lease_token = null, attempts = settled.attempts,
  failures = settled.failures, settled_at_ms = settled.settled_at_ms, reason = settled.reason,
  traffic = case when settled.state = 'waiting' then max(deliveries.traffic, 1) else deliveries.traffic end
from settled
where deliveries.tenant = settled.tenant and deliveries.event_key = settled.event_key
  and deliveries.hook_id = settled.hook_id and deliveries.lease_token = settled.lease_token;

-- insert_attempt
insert into attempts (
  tenant, event_key, hook_id, number, started_at_ms, url, worker, result, status, duration_ms, detail, head, body,
  phases
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- end_leases
-- The token stays: the next claim records the attempt that may have been made under it.
update deliveries
set due_at_ms = ?
where lease_token is not null and due_at_ms > ?;

-- surrender
update deliveries
set due_at_ms = ?, lease_token = null
where tenant = ? and event_key = ? and hook_id = ? and lease_token = ?;

-- cancel
update deliveries
set state = 'cancelled', due_at_ms = null, lease_token = null, settled_at_ms = ?, reason = ?
where tenant = ? and event_key = ? and hook_id = ? and state in ('waiting', 'exhausted');

-- replay
-- One that somebody holds a lease on is on its way: it stays as it is, so that it is not attempted twice at a time.
update deliveries
set state = 'waiting', due_at_ms = ?1, lease_token = null, failures = 0, traffic = 2, settled_at_ms = null, reason = ''
where tenant = ?2 and event_key = ?3 and hook_id = ?4 and not (lease_token is not null and due_at_ms > ?1);

-- has_delivery
select exists (select 1 from deliveries where tenant = ? and event_key = ? and hook_id = ?);

-- insert_hook
insert into hooks (
  tenant, template, name, display_name, is_active, is_paused, subscriptions, config, failing_since_ms,
  inactive_since_ms, inactive_because, sealed_secrets, version, created_at_ms, updated_at_ms
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, x'', 1, ?, ?)
returning id;

-- seal_hook
update hooks set sealed_secrets = ? where id = ?;

-- update_hook
update hooks
set template = ?, name = ?, display_name = ?, is_active = ?, is_paused = ?, subscriptions = ?, config = ?,
  failing_since_ms = ?, inactive_since_ms = ?, inactive_because = ?, sealed_secrets = ?, version = version + 1, updated_at_ms = ?
where tenant = ? and id = ?;

-- delete_hook
delete from hooks where tenant = ? and id = ?;

-- cancel_orphans
update deliveries
set state = 'cancelled', due_at_ms = null, lease_token = null, settled_at_ms = ?1, reason = 'the hook was deleted'
where (tenant, event_key, hook_id) in (
  select d.tenant, d.event_key, d.hook_id
  from deliveries d
  where d.due_at_ms is not null and d.hook_id = ?2
  limit ?3
);

-- find_orphans
with recursive lanes (hook_id) as (
  select min(hook_id) from deliveries where due_at_ms is not null
  union all
  select (select min(d.hook_id) from deliveries d where d.due_at_ms is not null and d.hook_id > lanes.hook_id)
  from lanes
  where lanes.hook_id is not null
)
select hook_id
from lanes
where hook_id is not null and hook_id not in (select id from hooks);

-- get_hook
select
  id, tenant, template, name, display_name, is_active, is_paused, subscriptions, config, sealed_secrets, version,
  created_at_ms, updated_at_ms, failing_since_ms, inactive_since_ms, inactive_because
from hooks
where tenant = ? and id = ?;

-- list_hooks
select
  id, tenant, template, name, display_name, is_active, is_paused, subscriptions, config, sealed_secrets, version,
  created_at_ms, updated_at_ms, failing_since_ms, inactive_since_ms, inactive_because
from hooks
where ?1 is null or tenant = ?1
order by display_name, id;

-- get_event
select tenant, event_key, entity_name, action_name, entity_id, timestamp_ms, accepted_at_ms, payload
from events
where tenant = ? and event_key = ?;

-- list_events
select tenant, event_key, entity_name, action_name, entity_id, timestamp_ms, accepted_at_ms, payload
from events
where {where}
order by event_key desc
limit ?;

-- get_delivery
select
  d.tenant, d.event_key, d.hook_id, e.entity_name, e.action_name, e.entity_id, d.state, d.attempts, d.failures,
  d.due_at_ms, e.accepted_at_ms, d.settled_at_ms, d.traffic, d.reason,
  case
    when d.order_key is not null and d.due_at_ms is not null then (
      select min(earlier.event_key)
      from deliveries earlier
      where earlier.hook_id = d.hook_id and earlier.order_key = d.order_key and earlier.event_key < d.event_key
        and earlier.state in ('waiting', 'exhausted')
    )
  end
from deliveries d
join events e on e.tenant = d.tenant and e.event_key = d.event_key
where d.tenant = ? and d.event_key = ? and d.hook_id = ?;

-- list_deliveries
select
  d.tenant, d.event_key, d.hook_id, e.entity_name, e.action_name, e.entity_id, d.state, d.attempts, d.failures,
  d.due_at_ms, e.accepted_at_ms, d.settled_at_ms, d.traffic, d.reason,
  case
    when d.order_key is not null and d.due_at_ms is not null then (
      select min(earlier.event_key)
      from deliveries earlier
      where earlier.hook_id = d.hook_id and earlier.order_key = d.order_key and earlier.event_key < d.event_key
        and earlier.state in ('waiting', 'exhausted')
    )
  end
from deliveries d
join events e on e.tenant = d.tenant and e.event_key = d.event_key
where {where}
order by d.event_key desc, d.hook_id desc
limit ?;

-- list_attempts
select number, started_at_ms, url, worker, result, status, duration_ms, detail, head, body, phases
from attempts
where tenant = ? and event_key = ? and hook_id = ?
order by number;

-- insert_user
insert into users (tenant, username, full_name, office_id, permissions, password_hash, created_at_ms)
values (?, ?, ?, ?, ?, ?, ?)
on conflict do nothing
returning id;

-- get_user
select id, tenant, username, full_name, office_id, permissions, password_hash
from users
where tenant = ? and username = ?;

-- has_users
select exists (select 1 from users);

-- set_failing_since
update hooks
set failing_since_ms = ?, version = version + 1
where tenant = ? and id = ?;

-- count_waiting
select traffic, count(*), min(due_at_ms)
from (
  select traffic, due_at_ms from deliveries where hook_id = ? and due_at_ms is not null limit ?
)
group by traffic;

-- events_reached
-- Where a page of this many events ends; null where there are none.
select max(event_key), count(*)
from (
  select event_key from events where tenant = ? and event_key > ? and event_key < ? order by event_key limit ?
);

-- list_candidates
select e.event_key, e.entity_name, e.action_name, e.entity_id, d.state, e.payload
from events e
left join deliveries d on d.tenant = e.tenant and d.event_key = e.event_key and d.hook_id = ?
where {where}
order by e.event_key
limit ?;

-- insert_replay
insert into replays (tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms)
values (?, ?, ?, ?, 'running', ?, 0, ?, ?);

-- get_replay
select tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms, finished_at_ms
from replays
where tenant = ? and replay_key = ?;

-- list_replays
select tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms, finished_at_ms
from replays
where tenant = ?
order by replay_key desc
limit ?;

-- running_replays
select tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms, finished_at_ms
from replays
where state = 'running'
order by replay_key;

-- queue_replayed
-- What is waiting already, or was changed since it was selected, stays as it is.
insert into deliveries (tenant, event_key, hook_id, state, due_at_ms, lease_token, order_key, traffic)
values (?, ?, ?, 'waiting', ?, null, ?, 2)
on conflict do update
set state = 'waiting', due_at_ms = excluded.due_at_ms, lease_token = null, failures = 0, traffic = 2,
  settled_at_ms = null, reason = ''
where deliveries.state <> 'waiting';

-- advance_replay
update replays
set reached = ?, queued = queued + ?, state = ?, finished_at_ms = ?
where tenant = ? and replay_key = ? and state = 'running' and reached = ?;

-- cancel_replay
update replays
set state = 'cancelled', finished_at_ms = ?
where tenant = ? and replay_key = ? and state = 'running';

-- oldest_events
select accepted_seq, tenant, event_key, accepted_at_ms
from events
where accepted_seq > ?
order by accepted_seq
limit ?;

-- is_unfinished
-- An exhausted delivery of an ordered hook holds back what comes after it: it stays until a person has looked.
select exists (
  select 1
  from deliveries
  where tenant = ? and event_key = ? and (state = 'waiting' or (state = 'exhausted' and order_key is not null))
);

-- delete_deliveries_of_event
delete from deliveries where tenant = ? and event_key = ?;

-- delete_event
delete from events where tenant = ? and event_key = ?;

-- tenants_of_attempts
with recursive tenants (tenant) as (
  select min(tenant) from attempts
  union all
  select (select min(a.tenant) from attempts a where a.tenant > tenants.tenant) from tenants where tenants.tenant is not null
)
select tenant from tenants where tenant is not null;

-- delete_old_attempts
delete from attempts
where (tenant, event_key, hook_id, number) in (
  select a.tenant, a.event_key, a.hook_id, a.number
  from attempts a
  where a.tenant = ?1 and a.event_key < ?2 and a.started_at_ms < ?3
    and not exists (
      select 1
      from deliveries d
      where d.tenant = a.tenant and d.event_key = a.event_key and d.hook_id = a.hook_id and d.state = 'waiting'
    )
  limit ?4
);

-- delete_old_keys
delete from idempotency_keys
where (tenant, key) in (select k.tenant, k.key from idempotency_keys k where k.created_at_ms < ? limit ?);

-- insert_tenant
insert into tenants (name, display_name, created_at_ms) values (?, ?, ?) on conflict do nothing returning name;

-- list_tenants
select name, display_name, created_at_ms from tenants order by name;

-- insert_api_key
insert into api_keys (key_id, tenant, name, digest, permissions, created_by, created_at_ms, expires_at_ms)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- get_api_key
select
  tenant, key_id, name, digest, permissions, created_by, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms
from api_keys
where key_id = ?;

-- list_api_keys
select
  tenant, key_id, name, digest, permissions, created_by, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms
from api_keys
where tenant = ?
order by created_at_ms, key_id;

-- revoke_api_key
update api_keys set revoked_at_ms = ? where tenant = ? and key_id = ? and revoked_at_ms is null;

-- use_api_key
update api_keys set last_used_at_ms = ? where key_id = ?;

-- last_audit
select number, digest from audits where tenant = ? order by number desc limit 1;

-- insert_audit
insert into audits (tenant, number, at_ms, username, action, resource_id, before, after, digest)
values (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- list_audits
select tenant, number, at_ms, username, action, resource_id, before, after, digest
from audits
where tenant = ? and number < ?
order by number desc
limit ?;

-- all_audits
select tenant, number, at_ms, username, action, resource_id, before, after, digest
from audits
order by tenant, number;

-- oldest_due
-- Of hooks that may receive and whose endpoints do not fail: jumps from hook to hook, as `due` does.
select min(oldest)
from (
  select (
    select min(d.due_at_ms) from deliveries d
    where d.hook_id = hooks.id and d.traffic = classes.column1 and d.due_at_ms is not null
  ) as oldest
  from hooks
  cross join (values (0), (1), (2)) classes
  where hooks.is_active and not hooks.is_paused and hooks.failing_since_ms is null
);

-- failing_hooks
select display_name
from hooks
where is_active and failing_since_ms is not null
order by failing_since_ms;

-- disabled_hooks
select display_name
from hooks
where not is_active and inactive_because <> ''
order by inactive_since_ms;

-- list_data_keys
select tenant, key_id, wrapped, wrapped_by, created_at_ms, is_retired
from data_keys
order by tenant, created_at_ms;

-- insert_data_key
-- Not where the keys that are there are wrapped by another one: it was rotated, and whoever asks does not know yet.
insert into data_keys (key_id, tenant, wrapped, wrapped_by, created_at_ms)
select ?1, ?2, ?3, ?4, ?5
where not exists (select 1 from data_keys where wrapped_by <> ?4)
on conflict do nothing
returning 1;

-- rewrap_data_key
update data_keys set wrapped = ?, wrapped_by = ? where key_id = ?;

-- count_data_keys
select count(*) from data_keys;

-- retire_data_key
update data_keys set is_retired = 1 where tenant = ?;

-- list_stale_seals
-- The data key's id is the second to ninth byte of every sealed value.
select h.tenant, 'hooks', h.id, 'secrets', h.sealed_secrets
from hooks h
left join data_keys k on k.key_id = substr(h.sealed_secrets, 2, 8)
where k.key_id is null or k.is_retired
limit ?;

-- replace_seal_in_hooks
update hooks set sealed_secrets = ? where id = ? and sealed_secrets = ?;

-- remove_retired_data_keys
delete from data_keys
where is_retired and not exists (select 1 from hooks h where substr(h.sealed_secrets, 2, 8) = data_keys.key_id);

-- put_audit_head
insert into audit_heads (tenant, number, digest, signature) values (?, ?, ?, ?)
on conflict (tenant) do update set number = excluded.number, digest = excluded.digest, signature = excluded.signature;

-- unsigned_audit_heads
select tenant, number, digest from audit_heads where signature = x'';

-- list_audit_heads
select tenant, number, digest, signature from audit_heads order by tenant;

-- list_users
select id, tenant, username, full_name, office_id, permissions, password_hash
from users
where tenant = ?
order by username;

-- update_user
update users
set full_name = ?, office_id = ?, permissions = ?, password_hash = ?
where tenant = ? and id = ?;

-- delete_user
delete from users where tenant = ? and id = ?;

-- insert_kind
insert into kinds (tenant, entity_name, action_name, grouping, description, sample, created_at_ms)
values (?, ?, ?, ?, ?, ?, ?)
on conflict do nothing
returning entity_name;

-- update_kind
update kinds set grouping = ?, description = ?, sample = ? where tenant = ? and entity_name = ? and action_name = ?;

-- list_kinds
select entity_name, action_name, grouping, description, sample
from kinds
where tenant = ?
order by entity_name, action_name;

-- insert_inlet
insert into inlets (tenant, name, digest, forwards_failures, created_by, created_at_ms)
values (?, ?, ?, ?, ?, ?)
returning id;

-- get_inlet
select id, tenant, name, digest, forwards_failures, created_by, created_at_ms
from inlets
where digest = ?;

-- list_inlets
select id, tenant, name, digest, forwards_failures, created_by, created_at_ms
from inlets
where tenant = ?
order by id;

-- delete_inlet
delete from inlets where tenant = ? and id = ?;
