-- Chat: conversations of people with agents, over a model that their workspace names.

-- What an agent is told at the head of each conversation, and which calls it asks a person for.
alter table public.agents
  add instructions text not null default '' check (char_length(instructions) <= 20000),
  add asks text not null default 'writes' check (asks in ('never', 'writes', 'always'));
grant update (instructions, asks) on public.agents to authenticated;

-- The model that a workspace's conversations are held with.
create table public.chat_models (
  id uuid primary key,
  workspace_id uuid not null unique references public.workspaces (id) on delete cascade,
  provider text not null check (provider in ('openai-compatible', 'anthropic')),
  base_url text not null check (char_length(base_url) <= 2000),
  model text not null check (char_length(model) between 1 and 200),
  -- How agents' tools are reached: as a client of the bridge over either transport.
  transport text not null default 'streamable_http' check (transport in ('streamable_http', 'http_sse')),
  -- Its key, sealed for this row's id (models/secrets.ts); all null where the model asks for none.
  key_id text,
  iv bytea,
  ciphertext bytea,
  has_key boolean generated always as (ciphertext is not null) stored,
  updated_at timestamptz not null default now(),
  check ((key_id is null) = (iv is null) and (iv is null) = (ciphertext is null))
);
revoke all on public.chat_models from public, anon, authenticated;
alter table public.chat_models enable row level security;
alter table public.chat_models force row level security;
-- Never the ciphertext.
grant select (id, workspace_id, provider, base_url, model, transport, has_key, updated_at), delete,
  insert (id, workspace_id, provider, base_url, model, transport, key_id, iv, ciphertext, updated_at),
  update (provider, base_url, model, transport, key_id, iv, ciphertext, updated_at)
  on public.chat_models to authenticated;
create policy person_reads on public.chat_models for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy admin_inserts on public.chat_models for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('admin')));
create policy admin_updates on public.chat_models for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')))
  with check (workspace_id in (select mooring.workspaces_as('admin')));
create policy admin_deletes on public.chat_models for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('admin')));

-- Who named it, and who it is that answers from now on, stands among the workspace's events.
create function mooring.tell_chat_model() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op <> 'DELETE' then
    perform mooring.say_in_workspace(new.workspace_id, 'Named ' || new.model || ' at '
      || coalesce(substring(new.base_url from '^https?://([^/]+)'), '?') || ' for the chat');
  -- With the workspace goes everything: there is nobody to tell.
  elsif exists (select from public.workspaces where id = old.workspace_id) then
    perform mooring.say_in_workspace(old.workspace_id, 'Forgot the model of the chat, and its key');
  end if;
  return null;
end $$;
revoke all on function mooring.tell_chat_model from public;
create trigger tell after insert or update or delete on public.chat_models
  for each row execute function mooring.tell_chat_model();

-- A conversation is its person's own: nobody else sees it, whatever they are in the workspace.
create table public.conversations (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  -- Null once the agent is removed: what was said stays readable.
  agent_id uuid,
  title text not null check (char_length(title) between 1 and 200),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (id, workspace_id, user_id),
  foreign key (agent_id, workspace_id) references public.agents (id, workspace_id) on delete set null (agent_id)
);
create index on public.conversations (user_id, workspace_id, updated_at desc);
create index on public.conversations (agent_id);

-- What a person said, and that the agent answers it.
create table public.conversation_turns (
  id uuid primary key,
  conversation_id uuid not null,
  workspace_id uuid not null,
  user_id uuid not null,
  text text not null check (octet_length(text) <= 256 * 1024),
  -- Resources and prompts that the person attached, as they were read then: json keeps \u0000.
  attachments json not null default '[]' check (octet_length(attachments::text) <= 2 * 1024 * 1024),
  -- waiting: for a person's word on a call.
  state text not null default 'running' check (state in ('running', 'waiting', 'done', 'failed', 'stopped')),
  -- Why it failed, for a person.
  trouble text check (char_length(trouble) <= 2000),
  stop_asked boolean not null default false,
  -- Who works on it, and when that was last heard of: where it is old, they are gone. A turn that was
  -- taken over by another has another holder, and what the first still writes finds no row.
  holder uuid,
  seen_at timestamptz not null default now(),
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  unique (id, workspace_id, user_id),
  foreign key (conversation_id, workspace_id, user_id)
    references public.conversations (id, workspace_id, user_id) on delete cascade
);
create index on public.conversation_turns (conversation_id, id);
-- One answer at a time.
create unique index on public.conversation_turns (conversation_id) where state in ('running', 'waiting');

-- One answer of the model: what it thought and wrote, and which tools it asked for.
create table public.conversation_steps (
  turn_id uuid not null,
  n integer not null check (n >= 0),
  workspace_id uuid not null,
  user_id uuid not null,
  reasoning text not null default '',
  text text not null default '',
  -- The whole of it once the model has ended, as it is given back to the model.
  message json,
  input_tokens integer,
  output_tokens integer,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  primary key (turn_id, n),
  foreign key (turn_id, workspace_id, user_id)
    references public.conversation_turns (id, workspace_id, user_id) on delete cascade
);

-- A tool that the model asked for in a step.
create table public.conversation_calls (
  id uuid primary key,
  turn_id uuid not null,
  step integer not null,
  n integer not null,
  workspace_id uuid not null,
  user_id uuid not null,
  -- What the model calls this call.
  call_id text not null check (char_length(call_id) <= 500),
  tool text not null check (char_length(tool) <= 1024),
  arguments text not null check (octet_length(arguments) <= 4 * 1024 * 1024),
  -- asked: a person's word is waited for; allowed: it was given, or none was needed.
  state text not null check (state in ('asked', 'allowed', 'running', 'done', 'failed', 'denied', 'stopped')),
  -- The tool's whole answer as JSON; null: there is none, or it was beyond the limit.
  result text check (octet_length(result) <= 16 * 1024 * 1024),
  -- What the model was told of it: its text, or why there is none.
  told text check (octet_length(told) <= 1024 * 1024),
  started_at timestamptz,
  duration_ms double precision,
  unique (turn_id, step, n),
  foreign key (turn_id, step) references public.conversation_steps (turn_id, n) on delete cascade,
  foreign key (turn_id, workspace_id, user_id)
    references public.conversation_turns (id, workspace_id, user_id) on delete cascade
);

-- What the chat itself calls an agent's tools with, in its person's name: soon over, and on no page.
create table public.conversation_tokens (
  id uuid primary key,
  token_hash text not null unique,
  workspace_id uuid not null,
  agent_id uuid not null,
  user_id uuid not null,
  expires_at timestamptz not null check (expires_at <= now() + interval '2 hours'),
  foreign key (agent_id, workspace_id) references public.agents (id, workspace_id) on delete cascade,
  foreign key (workspace_id, user_id) references public.members (workspace_id, user_id) on delete cascade
);
create index on public.conversation_tokens (user_id, expires_at);
create index on public.conversation_tokens (agent_id);

do $$
declare t text;
begin
  foreach t in array array['conversations', 'conversation_turns', 'conversation_steps', 'conversation_calls',
    'conversation_tokens'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', t);
    execute format('alter table public.%I enable row level security', t);
    execute format('alter table public.%I force row level security', t);
    execute format($policy$create policy person_owns on public.%I for all to authenticated
      using (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')))
      with check (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')))$policy$, t);
  end loop;
end $$;
grant select, insert, update (title, updated_at), delete on public.conversations to authenticated;
grant select, insert, update (state, trouble, stop_asked, holder, seen_at, ended_at)
  on public.conversation_turns to authenticated;
grant select, insert, update (reasoning, text, message, input_tokens, output_tokens, started_at, ended_at), delete
  on public.conversation_steps to authenticated;
grant select, insert, update (state, result, told, started_at, duration_ms) on public.conversation_calls to authenticated;
grant select (id, workspace_id, agent_id, user_id, expires_at), insert, delete
  on public.conversation_tokens to authenticated;

-- Wakes who waits for this conversation alone: no other page has to look.
create function mooring.wake_conversation() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  changed record;
  conversation uuid;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  if tg_table_name = 'conversations' then
    conversation := changed.id;
  elsif tg_table_name = 'conversation_turns' then
    conversation := changed.conversation_id;
  else
    select t.conversation_id into conversation from public.conversation_turns t where t.id = changed.turn_id;
  end if;
  perform pg_notify('mooring', json_build_object('table', tg_table_name, 'workspace', null, 'server', null,
    'toolbox', null, 'agent', null, 'conversation', conversation)::text);
  return null;
end $$;
create trigger wake after insert or delete or update of title on public.conversations
  for each row execute function mooring.wake_conversation();
-- Not of seen_at, which says only that there is nothing to say.
create trigger wake after insert or update of state, trouble, stop_asked on public.conversation_turns
  for each row execute function mooring.wake_conversation();
create trigger wake after insert or update or delete on public.conversation_steps
  for each row execute function mooring.wake_conversation();
create trigger wake after insert or update on public.conversation_calls
  for each row execute function mooring.wake_conversation();

-- The model with its sealed key, for who works on a turn just now.
create function mooring.model_of_turn(turn uuid, worker uuid)
returns table (id uuid, provider text, base_url text, model text, transport text, key_id text, iv bytea,
  ciphertext bytea)
language sql stable security definer set search_path = '' as $$
  select m.id, m.provider, m.base_url, m.model, m.transport, m.key_id, m.iv, m.ciphertext
  from public.chat_models m
  join public.conversation_turns t on t.workspace_id = m.workspace_id
  where t.id = turn and t.holder = worker and t.state = 'running'
$$;

-- Tokens of the chat are an agent's as well, while their person is who they were.
create or replace function mooring.agent_of_token(hash text)
returns table (token_id uuid, agent_id uuid, workspace_id uuid, expires_at timestamptz)
language sql stable security definer set search_path = '' as $$
  select t.id, t.agent_id, t.workspace_id, t.expires_at from public.agent_tokens t
  where t.token_hash = hash and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
  union all
  select t.id, t.agent_id, t.workspace_id, t.expires_at from public.conversation_tokens t
  join public.members m on m.workspace_id = t.workspace_id and m.user_id = t.user_id
    and m.role in ('owner', 'admin', 'member')
  where t.token_hash = hash and t.expires_at > now()
$$;
revoke all on function mooring.wake_conversation, mooring.model_of_turn from public;
grant execute on function mooring.model_of_turn to mooring_app;
