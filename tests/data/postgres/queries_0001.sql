-- Every statement of the PostgreSQL store, by name: the names of the SQLite store, where both have the statement.
-- The first parameter of whatever needs the time is null, or a test's own time.

-- publish
-- Everything of many publications, or, raising, nothing. Entities of ordered hooks are accepted one at a time: the
-- number is drawn under a lock that is held until the commit, so a lower one is never committed after a higher one.
with
  locked as materialized (
    select count(*) filter (where pg_advisory_xact_lock(1, bucket) is not null) as locks from unnest($2::int[]) bucket
  ),
  clock as materialized (select embarc_now_ms($1) as now_ms),
  numbered as materialized (
    select array_agg(nextval('accepted_seq')) as seqs, (select now_ms from clock) as now_ms
    from locked, generate_series(1, cardinality($3::text[]))
  ),
  new_keys as (
    insert into idempotency_keys (tenant, key, fingerprint, event_keys, deliveries, created_at_ms)
    select k.*, numbered.now_ms
    from unnest($4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::int[]) k, numbered
    on conflict do nothing
    returning 1
  ),
  new_events as (
    insert into events (
      tenant, event_key, entity_name, action_name, entity_id, timestamp_ms, payload, accepted_seq, accepted_at_ms
    )
    select
      e.tenant, e.event_key, e.entity_name, e.action_name, e.entity_id, e.timestamp_ms, e.payload,
      numbered.seqs[e.position], numbered.now_ms
    from
      unnest($3::text[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::bytea[])
        with ordinality e (tenant, event_key, entity_name, action_name, entity_id, timestamp_ms, payload, position),
      numbered
  ),
  new_times as (
    insert into event_times (tenant, entity_name, entity_id, timestamp_ms, event_key)
    select e.tenant, e.entity_name, e.entity_id, e.timestamp_ms, e.event_key
    from unnest($3::text[], $10::text[], $12::text[], $13::bigint[], $9::bytea[])
      e (tenant, entity_name, entity_id, timestamp_ms, event_key)
    where e.entity_id is not null
    on conflict do nothing
    returning 1
  ),
  new_deliveries as (
    insert into deliveries (
      tenant, event_key, hook_id, state, due_at_ms, lease_token, order_key, accepted_seq
    )
    select
      d.tenant, d.event_key, d.hook_id, 'waiting', numbered.now_ms + d.lease_ms, d.lease_token, d.order_key,
      numbered.seqs[d.position]
    from
      unnest($15::text[], $16::bytea[], $17::bigint[], $18::bigint[], $19::bigint[], $20::text[], $21::int[])
        d (tenant, event_key, hook_id, lease_ms, lease_token, order_key, position),
      numbered
  )
select embarc_confirm(
  (select count(*) from new_keys) = cardinality($4::text[]) and (select count(*) from new_times) = $22::bigint,
  $23::bigint is null or $23 = (select revision from hooks_revision)
);

-- known_events
-- Those that are ours from a commit whose answer did not arrive.
select e.position::int
from unnest($1::text[], $2::bytea[]) with ordinality e (tenant, event_key, position)
where exists (select 1 from events x where x.tenant = e.tenant and x.event_key = e.event_key);

-- known_attempts
-- Those that are ours from a commit whose answer did not arrive.
select a.position::int
from
  unnest($1::text[], $2::bytea[], $3::bigint[], $4::int[], $5::bigint[], $6::text[])
    with ordinality a (tenant, event_key, hook_id, number, started_at_ms, worker, position)
  join attempts x using (tenant, event_key, hook_id, number, started_at_ms, worker);

-- latest_timestamps
-- Of those whose very timestamp is taken.
select e.position::int, latest.timestamp_ms
from
  unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])
    with ordinality e (tenant, entity_name, entity_id, timestamp_ms, event_key, position)
  join event_times taken using (tenant, entity_name, entity_id, timestamp_ms)
  cross join lateral (
    select max(x.timestamp_ms) as timestamp_ms
    from event_times x
    where x.tenant = e.tenant and x.entity_name = e.entity_name and x.entity_id = e.entity_id
  ) latest
where taken.event_key <> e.event_key;

-- get_idempotency_keys
select k.position::int, known.fingerprint, known.event_keys, known.deliveries
from
  unnest($1::text[], $2::text[]) with ordinality k (tenant, key, position)
  join idempotency_keys known using (tenant, key);

-- hooks_revision
select revision from hooks_revision;

-- raise_hooks_revision
update hooks_revision set revision = revision + 1;

-- due
-- Jumps from hook to hook in the index, so that its cost does not grow with the backlog.
with recursive lanes (hook_id) as (
  (select hook_id from deliveries where due_at_ms is not null order by hook_id limit 1)
  union all
  select (
    select d.hook_id
    from deliveries d
    where d.due_at_ms is not null and d.hook_id > lanes.hook_id
    order by d.hook_id
    limit 1
  )
  from lanes
  where lanes.hook_id is not null
)
select lanes.hook_id, classes.traffic, earliest.due_at_ms - embarc_now_ms($1)
from
  lanes
  cross join (values (0::smallint), (1::smallint), (2::smallint)) classes (traffic)
  cross join lateral (
    select d.due_at_ms
    from deliveries d
    where d.hook_id = lanes.hook_id and d.traffic = classes.traffic and d.due_at_ms is not null
    order by d.due_at_ms
    limit 1
  ) earliest
where lanes.hook_id is not null;

-- claim
-- Each hook's and class's own few, past those that another claim has locked. Equal due times go in the order of
-- acceptance. Whether an earlier one of the same key holds one back is asked of the table, not of the lock: one that
-- is being claimed elsewhere is still there. An old token means that a process may have sent it: an attempt is `lost`.
with
  clock as materialized (select embarc_now_ms($1) as now_ms),
  picked as materialized (
    select d.*
    from
      clock,
      unnest($2::bigint[], $3::smallint[], $4::int[]) wanted (hook_id, traffic, at_most)
      cross join lateral (
        select
          d.tenant, d.event_key, d.hook_id, d.traffic, d.due_at_ms, d.lease_token, d.failures,
          d.attempts + (d.lease_token is not null)::int as attempts
        from deliveries d
        where d.hook_id = wanted.hook_id and d.traffic = wanted.traffic
          and d.due_at_ms is not null and d.due_at_ms <= clock.now_ms
          and (
            d.order_key is null
            or not exists (
              select 1
              from deliveries earlier
              where earlier.hook_id = d.hook_id and earlier.order_key = d.order_key
                and earlier.accepted_seq < d.accepted_seq
            )
          )
        order by d.due_at_ms, d.event_key
        limit wanted.at_most
        for update of d skip locked
      ) d
  ),
  leased as (
    update deliveries d
    set due_at_ms = clock.now_ms + $5::bigint, lease_token = $6::bigint, attempts = picked.attempts
    from clock, picked
    where d.tenant = picked.tenant and d.event_key = picked.event_key and d.hook_id = picked.hook_id
  ),
  lost as (
    insert into attempts (
      tenant, event_key, hook_id, number, started_at_ms, url, worker, result, status, duration_ms, detail, head, body,
      phases
    )
    select
      picked.tenant, picked.event_key, picked.hook_id, picked.attempts, clock.now_ms, '', '', $7::text, null, 0, $8::text,
      '', '', '[]'
    from clock, picked
    where picked.lease_token is not null
  )
select
  picked.tenant, picked.event_key, picked.hook_id, picked.traffic, picked.attempts, picked.failures, e.entity_name,
  e.action_name, e.payload
from
  picked
  join events e on e.tenant = picked.tenant and e.event_key = picked.event_key
order by picked.due_at_ms, picked.event_key;

-- renew
update deliveries d
set due_at_ms = embarc_now_ms($1) + $2::bigint
from unnest($3::text[], $4::bytea[], $5::bigint[], $6::bigint[]) with ordinality
  held (tenant, event_key, hook_id, lease_token, position)
where d.tenant = held.tenant and d.event_key = held.event_key and d.hook_id = held.hook_id
  and d.lease_token = held.lease_token
returning held.position::int;

-- settle
-- What has ended moves out of the hot table. An exhausted one of an ordered hook stays: it holds back what comes after it.
with
  settled as materialized (
    select s.*, embarc_now_ms($1) as now_ms
    from unnest(
      $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::int[], $9::int[], $10::text[],
      $11::bigint[], $12::text[], $13::text[], $14::text[], $15::int[], $16::float8[], $17::text[], $18::bytea[],
      $19::bytea[], $20::text[]
    ) with ordinality s (
      tenant, event_key, hook_id, lease_token, state, retry_in_ms, attempts, failures, reason,
      started_at_ms, url, worker, result, status, duration_ms, detail, head, body,
      phases, position
    )
  ),
  ended as (
    delete from deliveries d
    using settled s
    where d.tenant = s.tenant and d.event_key = s.event_key and d.hook_id = s.hook_id and d.lease_token = s.lease_token
      and s.state <> 'waiting' and (s.state <> 'exhausted' or d.order_key is null)
    returning s.*, d.traffic, d.order_key, d.accepted_seq
  ),
  logged as (
    insert into ended_deliveries (
      tenant, event_key, hook_id, state, attempts, failures, traffic, order_key, accepted_seq, settled_at_ms, reason
    )
    select
      tenant, event_key, hook_id, state, attempts, failures, traffic, order_key, accepted_seq, now_ms, reason
    from ended
  ),
  kept as (
    update deliveries d
    set
      state = s.state, due_at_ms = s.now_ms + s.retry_in_ms, lease_token = null, attempts = s.attempts,
      failures = s.failures, reason = s.reason,
      settled_at_ms = case when s.state = 'exhausted' then s.now_ms end,
      traffic = case when s.state = 'waiting' then greatest(d.traffic, 1) else d.traffic end
    from settled s
    where d.tenant = s.tenant and d.event_key = s.event_key and d.hook_id = s.hook_id and d.lease_token = s.lease_token
      and (s.state = 'waiting' or (s.state = 'exhausted' and d.order_key is not null))
    returning s.*, d.traffic, d.order_key, d.accepted_seq
  ),
  recorded as (
    insert into attempts (
      tenant, event_key, hook_id, number, started_at_ms, url, worker, result, status, duration_ms, detail, head, body,
      phases
    )
    select
      tenant, event_key, hook_id, attempts, started_at_ms, url, worker, result, status, duration_ms, detail, head, body,
      phases
    from (select * from ended union all select * from kept) ours
  )
select position::int from ended
union all
select position::int from kept;

-- surrender
with given_back as (
  update deliveries d
  set due_at_ms = embarc_now_ms($1), lease_token = null
  from unnest($2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) held (tenant, event_key, hook_id, lease_token)
  where d.tenant = held.tenant and d.event_key = held.event_key and d.hook_id = held.hook_id
    and d.lease_token = held.lease_token
  returning 1
)
select count(*) from given_back;

-- cancel
with
  ended as (
    delete from deliveries where tenant = $2 and event_key = $3 and hook_id = $4 returning *
  ),
  logged as (
    insert into ended_deliveries (
      tenant, event_key, hook_id, state, attempts, failures, traffic, order_key, accepted_seq, settled_at_ms, reason
    )
    select
      tenant, event_key, hook_id, 'cancelled', attempts, failures, traffic, order_key, accepted_seq, embarc_now_ms($1),
      $5::text
    from ended
  ),
  changed as (
    update ended_deliveries
    set state = 'cancelled', settled_at_ms = embarc_now_ms($1), reason = $5::text
    where tenant = $2 and event_key = $3 and hook_id = $4 and state = 'exhausted'
    returning 1
  )
select (select count(*) from ended) + (select count(*) from changed) > 0;

-- replay
-- One that somebody holds a lease on is on its way: it stays as it is, so that it is not attempted twice at a time.
with
  woken as (
    update deliveries
    set
      state = 'waiting', due_at_ms = embarc_now_ms($1), lease_token = null, failures = 0, traffic = 2,
      settled_at_ms = null, reason = ''
    where tenant = $2 and event_key = $3 and hook_id = $4
      and not (lease_token is not null and due_at_ms > embarc_now_ms($1))
  ),
  back as (
    delete from ended_deliveries where tenant = $2 and event_key = $3 and hook_id = $4 returning *
  ),
  again as (
    insert into deliveries (
      tenant, event_key, hook_id, state, due_at_ms, attempts, traffic, order_key, accepted_seq
    )
    select tenant, event_key, hook_id, 'waiting', embarc_now_ms($1), attempts, 2, order_key, accepted_seq from back
  )
select exists (select 1 from all_deliveries where tenant = $2 and event_key = $3 and hook_id = $4);

-- insert_hook
insert into hooks (
  tenant, template, name, display_name, is_active, is_paused, subscriptions, config, failing_since_ms,
  inactive_since_ms, inactive_because, sealed_secrets, version, created_at_ms, updated_at_ms
)
values ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '', 1, embarc_now_ms($1), embarc_now_ms($1))
returning id;

-- seal_hook
update hooks set sealed_secrets = $1 where id = $2;

-- update_hook
update hooks
set template = $2, name = $3, display_name = $4, is_active = $5, is_paused = $6, subscriptions = $7, config = $8,
  failing_since_ms = $9, inactive_since_ms = $10, inactive_because = $11, sealed_secrets = $12, version = version + 1,
  updated_at_ms = embarc_now_ms($1)
where tenant = $13 and id = $14
returning 1;

-- delete_hook
delete from hooks where tenant = $1 and id = $2 returning 1;

-- set_failing_since
update hooks set failing_since_ms = $1, version = version + 1 where tenant = $2 and id = $3 returning 1;

-- find_orphans
with recursive lanes (hook_id) as (
  (select hook_id from deliveries where due_at_ms is not null order by hook_id limit 1)
  union all
  select (
    select d.hook_id
    from deliveries d
    where d.due_at_ms is not null and d.hook_id > lanes.hook_id
    order by d.hook_id
    limit 1
  )
  from lanes
  where lanes.hook_id is not null
)
select hook_id
from lanes
where hook_id is not null and not exists (select 1 from hooks where hooks.id = lanes.hook_id);

-- cancel_orphans
with
  ended as (
    delete from deliveries
    where (tenant, event_key, hook_id) in (
      select d.tenant, d.event_key, d.hook_id
      from deliveries d
      where d.due_at_ms is not null and d.hook_id = $2
      limit $3
      for update skip locked
    )
    returning *
  ),
  logged as (
    insert into ended_deliveries (
      tenant, event_key, hook_id, state, attempts, failures, traffic, order_key, accepted_seq, settled_at_ms, reason
    )
    select
      tenant, event_key, hook_id, 'cancelled', attempts, failures, traffic, order_key, accepted_seq, embarc_now_ms($1),
      'the hook was deleted'
    from ended
  )
select count(*) from ended;

-- get_hook
select
  id, tenant, template, name, display_name, is_active, is_paused, subscriptions, config, sealed_secrets, version,
  created_at_ms, updated_at_ms, failing_since_ms, inactive_since_ms, inactive_because
from hooks
where tenant = $1 and id = $2;

-- list_hooks
select
  id, tenant, template, name, display_name, is_active, is_paused, subscriptions, config, sealed_secrets, version,
  created_at_ms, updated_at_ms, failing_since_ms, inactive_since_ms, inactive_because
from hooks
where $1::text is null or tenant = $1
order by display_name collate "C", id;

-- get_event
select tenant, event_key, entity_name, action_name, entity_id, timestamp_ms, accepted_at_ms, payload
from events
where tenant = $1 and event_key = $2;

-- list_events
select tenant, event_key, entity_name, action_name, entity_id, timestamp_ms, accepted_at_ms, payload
from events
where {where}
order by event_key desc
limit {limit};

-- list_deliveries
select
  d.tenant, d.event_key, d.hook_id, e.entity_name, e.action_name, e.entity_id, d.state, d.attempts, d.failures,
  d.due_at_ms, e.accepted_at_ms, d.settled_at_ms, d.traffic, d.reason,
  case
    when d.order_key is not null and d.due_at_ms is not null then (
      select earlier.event_key
      from deliveries earlier
      where earlier.hook_id = d.hook_id and earlier.order_key = d.order_key and earlier.accepted_seq < d.accepted_seq
      order by earlier.accepted_seq
      limit 1
    )
  end
from all_deliveries d
join events e on e.tenant = d.tenant and e.event_key = d.event_key
where {where}
order by d.event_key desc, d.hook_id desc
limit {limit};

-- list_attempts
select number, started_at_ms, url, worker, result, status, duration_ms, detail, head, body, phases
from attempts
where tenant = $1 and event_key = $2 and hook_id = $3
order by number;

-- count_waiting
select traffic, count(*), min(due_at_ms)
from (
  select traffic, due_at_ms from deliveries where hook_id = $1 and due_at_ms is not null limit $2
) counted
group by traffic;

-- events_reached
-- Where a page of this many events ends; no row where there are none.
select event_key, count(*) over ()
from (
  select event_key from events where tenant = $1 and event_key > $2 and event_key < $3 order by event_key limit $4
) page
order by event_key desc
limit 1;

-- list_candidates
select e.event_key, e.entity_name, e.action_name, e.entity_id, coalesce(d.state, h.state), e.payload
from events e
left join deliveries d on d.tenant = e.tenant and d.event_key = e.event_key and d.hook_id = $1
left join ended_deliveries h on h.tenant = e.tenant and h.event_key = e.event_key and h.hook_id = $1
where {where}
order by e.event_key
limit {limit};

-- insert_replay
insert into replays (tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms)
values ($2, $3, $4, $5, 'running', $6, 0, $7, embarc_now_ms($1))
returning tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms, finished_at_ms;

-- get_replay
select tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms, finished_at_ms
from replays
where tenant = $1 and replay_key = $2;

-- list_replays
select tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms, finished_at_ms
from replays
where tenant = $1
order by replay_key desc
limit $2;

-- running_replays
select tenant, replay_key, hook_id, selection, state, reached, queued, created_by, created_at_ms, finished_at_ms
from replays
where state = 'running'
order by replay_key;

-- lock_hook_for_replay
-- Held until the commit: two jobs must not both find that a delivery is missing.
select pg_advisory_xact_lock(2, ($1::bigint % 2147483647)::int);

-- queue_replayed
-- What is waiting already, or was changed since it was selected, stays as it is.
with
  wanted as materialized (
    select w.tenant, w.event_key, w.hook_id, w.order_key, embarc_now_ms($1) as now_ms
    from unnest($2::text[], $3::bytea[], $4::bigint[], $5::text[]) w (tenant, event_key, hook_id, order_key)
  ),
  woken as (
    update deliveries d
    set
      state = 'waiting', due_at_ms = w.now_ms, lease_token = null, failures = 0, traffic = 2, settled_at_ms = null,
      reason = ''
    from wanted w
    where d.tenant = w.tenant and d.event_key = w.event_key and d.hook_id = w.hook_id and d.state <> 'waiting'
    returning 1
  ),
  back as (
    delete from ended_deliveries d
    using wanted w
    where d.tenant = w.tenant and d.event_key = w.event_key and d.hook_id = w.hook_id
    returning
      d.tenant, d.event_key, d.hook_id, w.now_ms, d.attempts, coalesce(d.order_key, w.order_key) as order_key,
      d.accepted_seq
  ),
  missing as (
    select w.tenant, w.event_key, w.hook_id, w.now_ms, 0 as attempts, w.order_key, e.accepted_seq
    from wanted w
    join events e on e.tenant = w.tenant and e.event_key = w.event_key
    where not exists (
      select 1
      from all_deliveries d
      where d.tenant = w.tenant and d.event_key = w.event_key and d.hook_id = w.hook_id
    )
    for key share of e
  ),
  again as (
    insert into deliveries (
      tenant, event_key, hook_id, state, due_at_ms, attempts, traffic, order_key, accepted_seq
    )
    select tenant, event_key, hook_id, 'waiting', now_ms, attempts, 2, order_key, accepted_seq from back
    union all
    select tenant, event_key, hook_id, 'waiting', now_ms, attempts, 2, order_key, accepted_seq from missing
    returning 1
  )
select (select count(*) from woken) + (select count(*) from again);

-- advance_replay
update replays
set
  reached = $2, queued = queued + $3, state = $4::text,
  finished_at_ms = case when $4::text = 'running' then null else embarc_now_ms($1) end
where tenant = $5 and replay_key = $6 and state = 'running' and reached = $7
returning 1;

-- cancel_replay
update replays
set state = 'cancelled', finished_at_ms = embarc_now_ms($1)
where tenant = $2 and replay_key = $3 and state = 'running'
returning 1;

-- now_ms
select embarc_now_ms($1);

-- days
-- The partitions of a table that are a day, and their day.
select child.relname as name, right(child.relname, 8) as day
from pg_inherits
join pg_class child on child.oid = pg_inherits.inhrelid
where pg_inherits.inhparent = $1::text::regclass and child.relname ~ '_[0-9]{8}$'
order by day;

-- delete_old_attempts
-- Of those whose day was dropped, or was never made.
with deleted as (
  delete from attempts_rest
  where (tenant, event_key, hook_id, number) in (
    select a.tenant, a.event_key, a.hook_id, a.number
    from attempts_rest a
    where a.event_key < $1 and a.started_at_ms < $2
      and not exists (
        select 1
        from deliveries d
        where d.tenant = a.tenant and d.event_key = a.event_key and d.hook_id = a.hook_id and d.state = 'waiting'
      )
    limit $3
  )
  returning 1
)
select count(*) from deleted;

-- delete_old_keys
with deleted as (
  delete from idempotency_keys
  where (tenant, key) in (
    select k.tenant, k.key from idempotency_keys k where k.created_at_ms < $1 limit $2 for update skip locked
  )
  returning 1
)
select count(*) from deleted;

-- insert_user
insert into users (tenant, username, full_name, office_id, permissions, password_hash, created_at_ms)
values ($2, $3, $4, $5, $6, $7, embarc_now_ms($1))
on conflict do nothing
returning id;

-- get_user
select id, tenant, username, full_name, office_id, permissions, password_hash
from users
where tenant = $1 and username = $2;

-- has_users
select exists (select 1 from users);

-- insert_tenant
insert into tenants (name, display_name, created_at_ms)
values ($2, $3, embarc_now_ms($1))
on conflict do nothing
returning name;

-- list_tenants
select name, display_name, created_at_ms from tenants order by name collate "C";

-- insert_api_key
insert into api_keys (key_id, tenant, name, digest, permissions, created_by, created_at_ms, expires_at_ms)
values ($2, $3, $4, $5, $6, $7, embarc_now_ms($1), $8);

-- get_api_key
select
  tenant, key_id, name, digest, permissions, created_by, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms
from api_keys
where key_id = $1;

-- list_api_keys
select
  tenant, key_id, name, digest, permissions, created_by, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms
from api_keys
where tenant = $1
order by created_at_ms, key_id collate "C";

-- revoke_api_key
update api_keys set revoked_at_ms = embarc_now_ms($1)
where tenant = $2 and key_id = $3 and revoked_at_ms is null
returning 1;

-- use_api_key
update api_keys set last_used_at_ms = embarc_now_ms($1) where key_id = $2 returning 1;

-- last_audit
select number, digest from audits where tenant = $1 order by number desc limit 1;

-- insert_audit
insert into audits (tenant, number, at_ms, username, action, resource_id, before, after, digest)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- list_audits
select tenant, number, at_ms, username, action, resource_id, before, after, digest
from audits
where tenant = $1 and number < $2
order by number desc
limit $3;

-- all_audits
select tenant, number, at_ms, username, action, resource_id, before, after, digest
from audits
order by tenant collate "C", number;
