-- Keys of the hot tables lead with the tenant, ids are made by us: the same shape can be spread over machines.

create table users (
  id integer primary key,
  tenant text not null,
  username text not null,
  full_name text not null,
  office_id integer not null,
  permissions text not null,
  password_hash text not null,
  created_at_ms integer not null,
  unique (tenant, username)
) strict;

create table hooks (
  id integer primary key autoincrement,
  tenant text not null,
  template text not null,
  name text not null,
  display_name text not null,
  is_active integer not null,
  is_paused integer not null,
  subscriptions text not null,
  config text not null,
  sealed_secrets blob not null,
  version integer not null,
  created_at_ms integer not null,
  updated_at_ms integer not null
) strict;

-- An ordinary rowid table: payloads of a kilobyte would make a clustered key's tree deep.
create table events (
  accepted_seq integer primary key,
  tenant text not null,
  event_key blob not null,
  entity_name text not null,
  action_name text not null,
  entity_id text,
  timestamp_ms integer not null,
  accepted_at_ms integer not null,
  payload blob not null
) strict;

create unique index events_by_key on events (tenant, event_key);

-- Older receivers use (entity id, timestamp) as a key.
create unique index events_by_entity on events (tenant, entity_name, entity_id, timestamp_ms)
where entity_id is not null;

-- due_at_ms is the one clock column: when to try, or when the lease of whoever tries ends. Null: nothing to do.
create table deliveries (
  tenant text not null,
  event_key blob not null,
  hook_id integer not null,
  state text not null,
  due_at_ms integer,
  lease_token integer,
  attempts integer not null default 0,
  failures integer not null default 0,
  is_replay integer not null default 0,
  order_key text,
  settled_at_ms integer,
  reason text not null default '',
  primary key (tenant, event_key, hook_id)
) strict, without rowid;

create index deliveries_due on deliveries (hook_id, due_at_ms) where due_at_ms is not null;

-- Only deliveries of hooks that asked for order have an order key. An exhausted one still holds what comes after it.
create index deliveries_in_order on deliveries (hook_id, order_key, event_key)
where order_key is not null and state in ('waiting', 'exhausted');

create index deliveries_by_hook on deliveries (tenant, hook_id, event_key);

-- What operators look for. Most rows are delivered and not in it.
create index deliveries_by_state on deliveries (tenant, state, event_key) where state <> 'delivered';

create table attempts (
  tenant text not null,
  event_key blob not null,
  hook_id integer not null,
  number integer not null,
  started_at_ms integer not null,
  url text not null,
  worker text not null,
  result text not null,
  status integer,
  duration_ms real not null,
  detail text not null,
  head blob not null,
  body blob not null,
  phases text not null,
  primary key (tenant, event_key, hook_id, number)
) strict, without rowid;

create table idempotency_keys (
  tenant text not null,
  key text not null,
  fingerprint blob not null,
  event_keys blob not null,
  deliveries integer not null,
  created_at_ms integer not null,
  primary key (tenant, key)
) strict, without rowid;
