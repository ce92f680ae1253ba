-- What a server asks of a person in the middle of a call of the chat (MCP's elicitation).

-- waiting: its server waits for the person's answers, which the call is made again with.
alter table public.conversation_calls drop constraint conversation_calls_state_check;
alter table public.conversation_calls add constraint conversation_calls_state_check
  check (state in ('asked', 'allowed', 'running', 'waiting', 'done', 'failed', 'denied', 'stopped'));
alter table public.conversation_calls
  -- What the bridge wants to get back with the answers (2026-07-28, basic/patterns/mrtr): sealed by it.
  add request_state text check (octet_length(request_state) <= 1024 * 1024),
  -- How often the server has asked: a call may ask again.
  add round smallint not null default 0,
  add unique (id, turn_id);
grant update (request_state, round) on public.conversation_calls to authenticated;

create table public.conversation_questions (
  id uuid primary key,
  call_id uuid not null,
  turn_id uuid not null,
  workspace_id uuid not null,
  user_id uuid not null,
  round smallint not null,
  -- What the server calls it among those of its round.
  name text not null check (char_length(name) <= 500),
  -- Who asks, as it was called then; null: it is not known.
  server_name text check (char_length(server_name) <= 200),
  -- As MCP has them: json keeps \u0000.
  params json not null check (octet_length(params::text) <= 256 * 1024),
  asked_at timestamptz not null default now(),
  -- The server waits no longer.
  expires_at timestamptz not null,
  -- Null: it is not answered.
  action text check (action in ('accept', 'decline', 'cancel')),
  content json check (octet_length(content::text) <= 256 * 1024),
  answered_at timestamptz,
  unique (call_id, round, name),
  foreign key (call_id, turn_id) references public.conversation_calls (id, turn_id) on delete cascade,
  foreign key (turn_id, workspace_id, user_id)
    references public.conversation_turns (id, workspace_id, user_id) on delete cascade
);
create index on public.conversation_questions (turn_id);
revoke all on public.conversation_questions from public, anon, authenticated;
alter table public.conversation_questions enable row level security;
alter table public.conversation_questions force row level security;
create policy person_owns on public.conversation_questions for all to authenticated
  using (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')))
  with check (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')));
grant select, insert, update (action, content, answered_at) on public.conversation_questions to authenticated;
create trigger wake after insert or update on public.conversation_questions
  for each row execute function mooring.wake_conversation();
