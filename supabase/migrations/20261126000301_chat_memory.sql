-- What a chat's model is given: pictures and other files where it takes them, and a summary in place of what
-- is too long for it.

alter table public.chat_models
  -- auto: as far as its provider and name tell; text: nothing but text; images; files: PDFs and sounds too.
  add sees text not null default 'auto' check (sees in ('auto', 'text', 'images', 'files')),
  -- So much of a conversation it is given at once.
  add context_tokens integer not null default 100000 check (context_tokens between 4000 and 2000000);
grant select (sees, context_tokens), insert (sees, context_tokens), update (sees, context_tokens)
  on public.chat_models to authenticated;

drop function mooring.model_of_turn(uuid, uuid);
create function mooring.model_of_turn(turn uuid, worker uuid)
returns table (id uuid, provider text, base_url text, model text, transport text, sees text,
  context_tokens integer, key_id text, iv bytea, ciphertext bytea)
language sql stable security definer set search_path = '' as $$
  select m.id, m.provider, m.base_url, m.model, m.transport, m.sees, m.context_tokens, m.key_id, m.iv, m.ciphertext
  from public.chat_models m
  join public.conversation_turns t on t.workspace_id = m.workspace_id
  where t.id = turn and t.holder = worker and t.state = 'running'
$$;
revoke all on function mooring.model_of_turn from public;
grant execute on function mooring.model_of_turn to mooring_app;

-- The files of what a person attached, base64, in the order in which `attachments` name them.
alter table public.conversation_turns
  add media json not null default '[]' check (octet_length(media::text) <= 8 * 1024 * 1024);
-- Of which types the pictures, sounds and files of its result are, in order; they stay there alone.
alter table public.conversation_calls add media_types text[] not null default '{}';
grant update (media_types) on public.conversation_calls to authenticated;

create table public.conversation_summaries (
  id uuid primary key,
  conversation_id uuid not null,
  -- Where it was made: before this step of this turn.
  turn_id uuid not null,
  step integer not null,
  workspace_id uuid not null,
  user_id uuid not null,
  -- What it stands for: all before this step of this turn; 0: all before the turn.
  until_turn_id uuid not null,
  until_step integer not null,
  -- Null: the model writes it just now, or broke off.
  text text check (octet_length(text) <= 256 * 1024),
  input_tokens integer,
  output_tokens integer,
  foreign key (conversation_id, workspace_id, user_id)
    references public.conversations (id, workspace_id, user_id) on delete cascade
);
create index on public.conversation_summaries (conversation_id, id);
revoke all on public.conversation_summaries from public, anon, authenticated;
alter table public.conversation_summaries enable row level security;
alter table public.conversation_summaries force row level security;
create policy person_owns on public.conversation_summaries for all to authenticated
  using (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')))
  with check (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')));
grant select, insert, update (text, input_tokens, output_tokens), delete
  on public.conversation_summaries to authenticated;

create or replace function mooring.wake_conversation() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  changed record;
  conversation uuid;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  if tg_table_name = 'conversations' then
    conversation := changed.id;
  elsif tg_table_name in ('conversation_turns', 'conversation_summaries') then
    conversation := changed.conversation_id;
  else
    select t.conversation_id into conversation from public.conversation_turns t where t.id = changed.turn_id;
  end if;
  perform pg_notify('mooring', json_build_object('table', tg_table_name, 'workspace', null, 'server', null,
    'toolbox', null, 'agent', null, 'conversation', conversation)::text);
  return null;
end $$;
create trigger wake after insert or update or delete on public.conversation_summaries
  for each row execute function mooring.wake_conversation();
