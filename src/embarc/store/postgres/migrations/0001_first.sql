-- Tables that PostgreSQL likes. `deliveries` is hot and small: it holds what waits, and what holds others back. What has
-- ended moves to `ended_deliveries`. What grows with time (events, their times, ended deliveries, attempts) is divided
-- by day and dropped by the day; `embarc_add_day` makes a day. Keys lead with the tenant, the shard key; an event's key
-- is a UUIDv7 whose first six bytes are the milliseconds of its acceptance, so days are ranges of keys.

-- Milliseconds since 1970 by the database's clock, unless a test has another one.
create function embarc_now_ms(instead bigint) returns bigint language sql volatile
as $$ select coalesce(instead, (extract(epoch from clock_timestamp()) * 1000)::bigint) $$;

-- Ends a statement that wrote a publication which cannot be accepted as it is: nothing of it stays.
create function embarc_confirm(is_new boolean, is_fresh boolean) returns boolean language plpgsql volatile
as $$
begin
  if is_new and is_fresh then
    return true;
  end if;
  raise exception 'a key or a timestamp was there before, or the hooks have changed; the rest is tried again'
    using errcode = 'EB001';
end
$$;

-- The order of acceptance. Compared only among deliveries of one hook and one entity, which are accepted one at a time.
create sequence accepted_seq;

create table users (
  id bigint generated always as identity,
  tenant text not null,
  username text not null,
  full_name text not null,
  office_id bigint not null,
  permissions text not null,
  password_hash text not null,
  created_at_ms bigint not null,
  primary key (tenant, username)
);

create table tenants (
  name text primary key,
  display_name text not null,
  created_at_ms bigint not null
);

-- Of a key only its digest is kept: it is random enough for a plain hash.
create table api_keys (
  key_id text primary key,
  tenant text not null,
  name text not null,
  digest bytea not null,
  permissions text not null,
  created_by text not null,
  created_at_ms bigint not null,
  expires_at_ms bigint,
  last_used_at_ms bigint,
  revoked_at_ms bigint
);

create index api_keys_by_tenant on api_keys (tenant, key_id);

create table audits (
  tenant text not null,
  number bigint not null,
  at_ms bigint not null,
  username text not null,
  action text not null,
  resource_id text not null,
  before text not null,
  after text not null,
  digest bytea not null,
  primary key (tenant, number)
);

create table hooks (
  id bigint generated always as identity primary key,
  tenant text not null,
  template text not null,
  name text not null,
  display_name text not null,
  is_active boolean not null,
  is_paused boolean not null,
  subscriptions text not null,
  config text not null,
  sealed_secrets bytea not null,
  version bigint not null,
  created_at_ms bigint not null,
  updated_at_ms bigint not null,
  failing_since_ms bigint,
  inactive_since_ms bigint,
  inactive_because text not null default ''
);

-- Rises with every change of a hook: processes match events against hooks in memory.
create table hooks_revision (
  only_one boolean primary key default true check (only_one),
  revision bigint not null
);

insert into hooks_revision (revision) values (1);

create table events (
  tenant text not null,
  event_key bytea not null,
  accepted_seq bigint not null,
  entity_name text not null,
  action_name text not null,
  entity_id text,
  timestamp_ms bigint not null,
  accepted_at_ms bigint not null,
  payload bytea not null,
  primary key (tenant, event_key)
) partition by range (event_key);

-- Older receivers use (entity id, timestamp) as a key. A table of its own, divided by that timestamp: only so can a
-- unique key and days go together.
create table event_times (
  tenant text not null,
  entity_name text not null,
  entity_id text not null,
  timestamp_ms bigint not null,
  event_key bytea not null,
  primary key (tenant, entity_name, entity_id, timestamp_ms)
) partition by range (timestamp_ms);

-- due_at_ms is the one clock column: when to try, or when the lease of whoever tries ends. Null: nothing to do, but it
-- holds back others (an exhausted one of a hook that asked for order).
create table deliveries (
  tenant text not null,
  event_key bytea not null,
  hook_id bigint not null,
  state text not null,
  due_at_ms bigint,
  lease_token bigint,
  attempts integer not null default 0,
  failures integer not null default 0,
  traffic smallint not null default 0,
  order_key text,
  accepted_seq bigint not null,
  settled_at_ms bigint,
  reason text not null default '',
  primary key (tenant, event_key, hook_id)
) with (
  fillfactor = 60,
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 10000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000
);

create index deliveries_due on deliveries (hook_id, traffic, due_at_ms, event_key) where due_at_ms is not null;

create index deliveries_in_order on deliveries (hook_id, order_key, accepted_seq) where order_key is not null;

create table ended_deliveries (
  tenant text not null,
  event_key bytea not null,
  hook_id bigint not null,
  state text not null,
  attempts integer not null,
  failures integer not null,
  traffic smallint not null,
  order_key text,
  accepted_seq bigint not null,
  settled_at_ms bigint not null,
  reason text not null,
  primary key (tenant, event_key, hook_id)
) partition by range (event_key);

create index ended_deliveries_by_hook on ended_deliveries (tenant, hook_id, event_key);

-- What operators look for. Most rows are delivered and not in it.
create index ended_deliveries_by_state on ended_deliveries (tenant, state, event_key) where state <> 'delivered';

create view all_deliveries as
select
  tenant, event_key, hook_id, state, due_at_ms, attempts, failures, traffic, order_key, accepted_seq, settled_at_ms, reason
from deliveries
union all
select
  tenant, event_key, hook_id, state, null, attempts, failures, traffic, order_key, accepted_seq, settled_at_ms, reason
from ended_deliveries;

create table attempts (
  tenant text not null,
  event_key bytea not null,
  hook_id bigint not null,
  number integer not null,
  started_at_ms bigint not null,
  url text not null,
  worker text not null,
  result text not null,
  status integer,
  duration_ms double precision not null,
  detail text not null,
  head bytea not null,
  body bytea not null,
  phases text not null,
  primary key (tenant, event_key, hook_id, number)
) partition by range (event_key);

-- Where rows go whose day was not made, or was dropped while they still waited.
create table events_rest partition of events default;
create table event_times_rest partition of event_times default;
create table ended_deliveries_rest partition of ended_deliveries default;
create table attempts_rest partition of attempts default;

create table idempotency_keys (
  tenant text not null,
  key text not null,
  fingerprint bytea not null,
  event_keys bytea not null,
  deliveries integer not null,
  created_at_ms bigint not null,
  primary key (tenant, key)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

create index idempotency_keys_by_age on idempotency_keys (created_at_ms);

-- A replay of many: a job that goes on where it stopped.
create table replays (
  tenant text not null,
  replay_key bytea not null,
  hook_id bigint not null,
  selection text not null,
  state text not null,
  reached bytea not null,
  queued bigint not null,
  created_by text not null,
  created_at_ms bigint not null,
  finished_at_ms bigint,
  primary key (tenant, replay_key)
);

create index replays_running on replays (state) where state = 'running';
