-- Live, retried and replayed deliveries of one hook are claimed apart, so that a million replays do not hide what is new.

alter table deliveries add column traffic integer not null default 0;

update deliveries
set traffic = case when is_replay then 2 when failures > 0 then 1 else 0 end;

alter table deliveries drop column is_replay;

drop index deliveries_due;

create index deliveries_due on deliveries (hook_id, traffic, due_at_ms) where due_at_ms is not null;

-- What is known about an endpoint outlives the process.
alter table hooks add column failing_since_ms integer;
alter table hooks add column inactive_since_ms integer;
alter table hooks add column inactive_because text not null default '';

-- A replay of many: a job that goes on where it stopped.
create table replays (
  tenant text not null,
  replay_key blob not null,
  hook_id integer not null,
  selection text not null,
  state text not null,
  reached blob not null,
  queued integer not null,
  created_by text not null,
  created_at_ms integer not null,
  finished_at_ms integer,
  primary key (tenant, replay_key)
) strict, without rowid;

create index replays_running on replays (state) where state = 'running';

create index idempotency_keys_by_age on idempotency_keys (created_at_ms);
