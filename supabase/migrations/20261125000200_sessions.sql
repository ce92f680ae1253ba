-- Sessions of MCP clients of revisions before 2026-07-28, so that any replica serves any of their
-- requests; and the messages of a session that cannot go from hand to hand within one replica.
create table public.mcp_sessions (
  id uuid primary key,
  workspace_id uuid not null,
  agent_id uuid not null,
  -- null for all of the agent's servers, else the slug of the one that the session is with.
  scope text check (char_length(scope) <= 64),
  transport text not null check (transport in ('streamable_http', 'http_sse')),
  revision text not null check (char_length(revision) <= 20),
  -- As the client wrote it: json, which keeps what jsonb refuses (\u0000).
  client_info json,
  capabilities json not null default '{}',
  log_level text not null default 'info' check (char_length(log_level) <= 20),
  subscriptions text[] not null default '{}' check (cardinality(subscriptions) <= 1000),
  -- Of the messages that several replicas write: given out under the row's lock, so that a reader who saw
  -- one number has seen all lower ones.
  last_sequence bigint not null default 0,
  created_at timestamptz not null default now(),
  -- Moved on by use, at most every ten minutes.
  expires_at timestamptz not null default now() + interval '3 days',
  foreign key (agent_id, workspace_id) references public.agents (id, workspace_id) on delete cascade
);
create index on public.mcp_sessions (agent_id, expires_at);
alter table public.mcp_sessions enable row level security;
alter table public.mcp_sessions force row level security;
grant select, insert, delete on public.mcp_sessions to mooring_agent;
grant update (revision, client_info, capabilities, log_level, subscriptions, expires_at)
  on public.mcp_sessions to mooring_agent;
create policy agent_owns on public.mcp_sessions for all to mooring_agent
  using (agent_id = mooring.agent_id())
  with check (agent_id = mooring.agent_id()
    and workspace_id = (select a.workspace_id from public.agents a where a.id = agent_id));

-- Messages that wait for who takes them. `stream` says for whom: `in`, what a client posted to another
-- replica than the one that waits for it; `sse`, an HTTP+SSE session's stream; `run:` and a replica's id,
-- which of that session's requests it works on; else the id of a POST's answer whose connection broke.
create table mooring.mcp_messages (
  session_id uuid not null references public.mcp_sessions on delete cascade,
  stream text not null check (char_length(stream) <= 64),
  sequence bigint not null,
  -- A JSON-RPC message's text, or a word of the bridge's own.
  message text not null,
  at timestamptz not null default now(),
  primary key (session_id, stream, sequence)
);
alter table mooring.mcp_messages enable row level security;
alter table mooring.mcp_messages force row level security;

-- Keeps messages, and wakes who waits for them. Without `first` they are numbered by the session; the only
-- writer of a stream numbers them itself. What nobody took within a quarter of an hour goes, and so does all
-- but the newest 5000. Returns the last number; null when there is no such session.
create function mooring.put_mcp_messages(session uuid, to_stream text, first bigint, messages text[])
returns bigint
language plpgsql security definer set search_path = '' as $$
declare last bigint;
begin
  if first is null then
    update public.mcp_sessions s set last_sequence = last_sequence + cardinality(messages)
    where s.id = session returning last_sequence into last;
  else
    select first + cardinality(messages) - 1 into last from public.mcp_sessions s where s.id = session;
  end if;
  if last is null then return null; end if;
  delete from mooring.mcp_messages m where m.session_id = session
    and (m.at < now() - interval '15 minutes' or m.stream = to_stream and m.sequence between 1 and last - 5000);
  insert into mooring.mcp_messages (session_id, stream, sequence, message)
  select session, to_stream, last - cardinality(messages) + n, message
  from unnest(messages) with ordinality as given (message, n)
  -- Written again: what says that a stream's replica lives.
  on conflict (session_id, stream, sequence) do update set message = excluded.message, at = now();
  perform pg_notify('mooring', json_build_object('table', 'mcp_messages', 'workspace', null, 'server', null,
    'toolbox', null, 'agent', null, 'session', session, 'stream', to_stream, 'sequence', last)::text);
  return last;
end $$;

-- A stream's messages after a number, in order; and when each was written, in milliseconds ago.
create function mooring.mcp_messages_after(session uuid, of_stream text, after bigint)
returns table (sequence bigint, message text, age_ms double precision)
language sql stable security definer set search_path = '' as $$
  select m.sequence, m.message, extract(epoch from clock_timestamp() - m.at)::float8 * 1000
  from mooring.mcp_messages m
  where m.session_id = session and m.stream = of_stream and m.sequence > after
  order by m.sequence limit 32
$$;

-- The replicas that worked on a session's requests but did not say so for long: what they worked on. Their
-- rows go with it, so that one asker alone is told.
create function mooring.take_lost_mcp_requests(session uuid, silent_ms double precision) returns setof text
language sql security definer set search_path = '' as $$
  delete from mooring.mcp_messages m where m.session_id = session and m.stream like 'run:%'
    and m.at < clock_timestamp() - silent_ms * interval '1 millisecond'
  returning m.message
$$;

-- Sessions that nobody used for long, and those of an agent beyond its newest thousand.
create function mooring.forget_mcp_sessions(agent uuid) returns void
language sql security definer set search_path = '' as $$
  delete from public.mcp_sessions s where s.expires_at < now() or s.id in (
    select o.id from public.mcp_sessions o where o.agent_id = agent
    order by o.expires_at desc, o.id offset 1000)
$$;

-- A session that changed or ended is read again wherever it is remembered. Not for each use or message.
create function mooring.wake_mcp_session() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform pg_notify('mooring', json_build_object('table', 'mcp_sessions', 'workspace', null, 'server', null,
    'toolbox', null, 'agent', null, 'session', old.id)::text);
  return null;
end $$;
create trigger wake after delete or update of revision, client_info, capabilities, log_level, subscriptions
  on public.mcp_sessions for each row execute function mooring.wake_mcp_session();

revoke all on function mooring.put_mcp_messages, mooring.mcp_messages_after, mooring.take_lost_mcp_requests,
  mooring.forget_mcp_sessions, mooring.wake_mcp_session from public;
grant execute on function mooring.put_mcp_messages, mooring.mcp_messages_after, mooring.take_lost_mcp_requests,
  mooring.forget_mcp_sessions to mooring_app;
