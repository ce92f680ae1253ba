-- What calls sum up to, counted as they are recorded: a page over 100,000 calls reads a few thousand small
-- rows, and the sums stay when the calls are removed.
--
-- A series is all calls of one agent with one tool that ended alike. Its calls are counted in spans of a
-- minute, an hour, a quarter day and a day (UTC), each kept as long as a page asks for it, and there by how
-- long they took: bucket b holds those of 1.1^b to 1.1^(b+1) ms, so what is read from it is at most 5 % off.

create table public.call_series (
  id bigint generated always as identity primary key,
  workspace_id uuid not null,
  -- As they were: an agent and a server may be gone by now.
  agent_id uuid,
  server_id uuid,
  server_slug text not null,
  tool text not null,
  via text not null,
  outcome text not null,
  -- Of all the above: a tool's name may be longer than an index takes.
  key uuid not null,
  unique (workspace_id, key)
);

create table public.call_sums (
  workspace_id uuid not null,
  span_seconds integer not null,
  at timestamptz not null,
  series_id bigint not null,
  -- Its series' own, for those that count by nothing else.
  outcome text not null,
  bucket smallint not null,
  calls integer not null,
  primary key (workspace_id, span_seconds, at, series_id, bucket)
  -- Room for the next value on the same page, since the newest rows change with each batch.
) with (fillfactor = 70);

-- What was recorded in the last seconds and is not among the sums yet: pages read it beside them.
create table public.call_tail (
  workspace_id uuid not null,
  agent_id uuid,
  server_id uuid,
  server_slug text not null,
  tool text not null,
  via text not null,
  outcome text not null,
  -- Its minute.
  at timestamptz not null,
  bucket smallint not null,
  calls integer not null
);

-- One row: when that is counted among the sums next, by whoever records calls then.
create table mooring.call_folding (
  is_one boolean primary key default true check (is_one),
  due_at timestamptz not null default now()
);
insert into mooring.call_folding default values;
alter table mooring.call_folding enable row level security;
alter table mooring.call_folding force row level security;

do $$
declare t text;
begin
  foreach t in array array['call_series', 'call_sums', 'call_tail'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', t);
    execute format('alter table public.%I enable row level security', t);
    execute format('alter table public.%I force row level security', t);
    execute format('grant select on public.%I to authenticated', t);
    execute format('create policy person_reads on public.%I for select to authenticated
      using (workspace_id in (select mooring.workspaces_as(''viewer'')))', t);
  end loop;
end $$;
revoke all on sequence public.call_series_id_seq from public, anon, authenticated;

-- In the very order that pages have, ids too: without statistics, as in the embedded database, Postgres
-- sorted all calls of a day to show the last fifty.
create index calls_of_workspace on public.calls (workspace_id, started_at desc, id desc);
create index calls_of_agent on public.calls (agent_id, started_at desc, id desc);
create index calls_of_server on public.calls (server_id, started_at desc, id desc);
drop index public.calls_workspace_id_started_at_idx, public.calls_agent_id_started_at_idx,
  public.calls_server_id_started_at_idx;
-- For what is looked for by itself, and is seldom.
create index calls_not_ok on public.calls (workspace_id, started_at desc, id desc) where outcome <> 'ok';
create index calls_tried on public.calls (workspace_id, started_at desc, id desc) where via = 'trial';

-- The tool last: nothing before it can hold the separator.
create function mooring.series_key(agent uuid, server uuid, slug text, tool text, via text, outcome text) returns uuid
language sql immutable as $$
  select md5(coalesce(agent::text, '') || e'\x1f' || coalesce(server::text, '') || e'\x1f' || via || e'\x1f'
    || outcome || e'\x1f' || slug || e'\x1f' || tool)::uuid
$$;

-- From 0.01 ms to three hours.
create function mooring.duration_bucket(ms double precision) returns smallint language sql immutable as $$
  select floor(ln(least(greatest(ms, 0.01), 1e7)) / ln(1.1::double precision))::smallint
$$;

-- How long the sums of a span are kept: a little longer than a page looks back.
create function mooring.call_spans() returns table (seconds integer, kept interval) language sql immutable as $$
  values (60, interval '2 hours'), (3600, interval '2 days'), (21600, interval '9 days'), (86400, interval '2 years')
$$;

-- Counts what was recorded lately among the sums, where it waited some seconds.
create function mooring.fold_call_tail(workspace uuid) returns void language plpgsql set search_path = '' as $$
declare tail public.call_tail[];
begin
  with gone as (delete from public.call_tail t where t.workspace_id = workspace returning t.*)
  select array_agg(gone::public.call_tail) into tail from gone;
  insert into public.call_series (workspace_id, agent_id, server_id, server_slug, tool, via, outcome, key)
  select n.* from (
    select distinct c.workspace_id, c.agent_id, c.server_id, c.server_slug, c.tool, c.via, c.outcome,
      mooring.series_key(c.agent_id, c.server_id, c.server_slug, c.tool, c.via, c.outcome) as key
    from unnest(tail) c) n
  where not exists (select from public.call_series s where s.workspace_id = n.workspace_id and s.key = n.key)
  -- In one order, so that two that fold never wait for each other in a circle.
  order by n.key
  on conflict do nothing;
  insert into public.call_sums (workspace_id, span_seconds, at, series_id, outcome, bucket, calls)
  select c.workspace_id, p.seconds, date_bin(make_interval(secs => p.seconds), c.at, 'epoch'), s.id,
    s.outcome, c.bucket, sum(c.calls)
  from unnest(tail) c
  join public.call_series s on s.workspace_id = c.workspace_id
    and s.key = mooring.series_key(c.agent_id, c.server_id, c.server_slug, c.tool, c.via, c.outcome)
  join mooring.call_spans() p on c.at > now() - p.kept
  group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 6
  on conflict (workspace_id, span_seconds, at, series_id, bucket)
    do update set calls = public.call_sums.calls + excluded.calls;
end $$;

-- Counts calls that were not counted yet: beside the sums at first, where a batch is a few rows without an
-- index, and among them once some have come together.
create function mooring.count_calls(added public.calls[]) returns void language plpgsql set search_path = '' as $$
declare workspace uuid;
begin
  insert into public.call_tail (workspace_id, agent_id, server_id, server_slug, tool, via, outcome, at, bucket, calls)
  select c.workspace_id, c.agent_id, c.server_id, c.server_slug, c.tool, c.via, c.outcome,
    date_bin('1 minute', c.started_at, 'epoch'), mooring.duration_bucket(c.duration_ms), count(*)
  from unnest(added) c group by 1, 2, 3, 4, 5, 6, 7, 8, 9;
  if not exists (select from mooring.call_folding f where f.due_at <= now()) then return; end if;
  update mooring.call_folding set due_at = now() + interval '10 seconds' where due_at <= now();
  if not found then return; end if;
  for workspace in select distinct t.workspace_id from public.call_tail t order by 1 loop
    perform mooring.fold_call_tail(workspace);
  end loop;
end $$;

-- Counts a workspace anew, from the calls that are kept.
create function mooring.recount_calls(workspace uuid) returns void language plpgsql set search_path = '' as $$
begin
  delete from public.call_sums s where s.workspace_id = workspace;
  delete from public.call_tail t where t.workspace_id = workspace;
  insert into public.call_tail (workspace_id, agent_id, server_id, server_slug, tool, via, outcome, at, bucket, calls)
  select c.workspace_id, c.agent_id, c.server_id, c.server_slug, c.tool, c.via, c.outcome,
    date_bin('1 minute', c.started_at, 'epoch'), mooring.duration_bucket(c.duration_ms), count(*)
  from public.calls c where c.workspace_id = workspace group by 1, 2, 3, 4, 5, 6, 7, 8, 9;
  perform mooring.fold_call_tail(workspace);
end $$;
select mooring.recount_calls(w.id) from public.workspaces w;

-- Records calls, many at once. Those that were recorded by an earlier try are not counted again.
create or replace function mooring.record_calls(batch jsonb) returns void
language plpgsql security definer set search_path = '' as $$
declare added public.calls[];
begin
  with new as (
    insert into public.calls (id, workspace_id, agent_id, server_id, server_slug, tool, via, started_at, duration_ms,
      outcome, error, request_bytes, response_bytes)
    select c.id, c.workspace_id, a.id, s.id, c.server_slug, c.tool, c.via, c.started_at, c.duration_ms,
      c.outcome, c.error, c.request_bytes, c.response_bytes
    from jsonb_to_recordset(batch) as c (id uuid, workspace_id uuid, agent_id uuid, server_id uuid, server_slug text,
      tool text, via text, started_at timestamptz, duration_ms double precision, outcome text, error text,
      request_bytes integer, response_bytes integer)
    join public.workspaces w on w.id = c.workspace_id
    -- What was removed since is recorded without its link, not lost.
    left join public.agents a on a.id = c.agent_id
    left join public.servers s on s.id = c.server_id
    on conflict (id) do nothing
    returning *
  ) select array_agg(new::public.calls) into added from new;
  perform mooring.count_calls(added);
  -- One wake-up an agent and server, not one a call.
  perform pg_notify('mooring', json_build_object('table', 'calls', 'workspace', c.workspace_id,
    'server', c.server_id, 'toolbox', null, 'agent', c.agent_id)::text)
  from (select distinct workspace_id, server_id, agent_id
    from jsonb_to_recordset(batch) as c (workspace_id uuid, server_id uuid, agent_id uuid)) c;
end $$;

create or replace function mooring.unlink_calls() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  case tg_table_name
    when 'workspaces' then
      delete from public.calls c using gone where c.workspace_id = gone.id;
      delete from public.call_sums s using gone where s.workspace_id = gone.id;
      delete from public.call_tail t using gone where t.workspace_id = gone.id;
      delete from public.call_series s using gone where s.workspace_id = gone.id;
    when 'agents' then
      update public.calls c set agent_id = null from gone where c.agent_id = gone.id;
    when 'servers' then
      update public.calls c set server_id = null from gone where c.server_id = gone.id;
  end case;
  return null;
end $$;

do $$
declare f text;
begin
  foreach f in array array['series_key', 'duration_bucket', 'call_spans', 'fold_call_tail', 'count_calls',
    'recount_calls'] loop
    execute format('revoke all on function mooring.%I from public', f);
  end loop;
end $$;
