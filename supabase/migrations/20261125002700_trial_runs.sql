-- A person's trials of a tool, which they alone see: a run is worked on by one replica, and all that others
-- need to show it, to answer its questions and to cancel it stands here.
create table public.trial_runs (
  id uuid primary key,
  workspace_id uuid not null,
  server_id uuid not null,
  user_id uuid not null references auth.users (id) on delete cascade,
  tool text not null check (char_length(tool) <= 1024),
  -- JSON texts; null once a newer run stands before one that is large.
  arguments text check (octet_length(arguments) <= 4 * 1024 * 1024),
  outcome text check (octet_length(outcome) <= 4 * 1024 * 1024),
  state text not null default 'running' check (state in ('running', 'ended', 'cancelled')),
  -- What the tool last said of how far it is: json, which keeps what jsonb refuses (\u0000).
  progress json check (octet_length(progress::text) <= 16 * 1024),
  -- What the server asks and waits for, and what it asked that a page cannot give.
  questions json not null default '[]' check (octet_length(questions::text) <= 256 * 1024),
  refused text[] not null default '{}' check (cardinality(refused) <= 20),
  -- The answers' JSON texts, by question.
  answers jsonb not null default '{}' check (octet_length(answers::text) <= 256 * 1024),
  cancel_asked boolean not null default false,
  is_error boolean not null default false,
  duration_ms double precision,
  started_at timestamptz not null default now(),
  -- Moved on by the replica that works on it: where it is old, that is gone.
  seen_at timestamptz not null default now(),
  ended_at timestamptz,
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);
create index on public.trial_runs (server_id, user_id, tool, started_at desc);
create index on public.trial_runs (user_id);
alter table public.trial_runs enable row level security;
alter table public.trial_runs force row level security;
grant select, insert, delete on public.trial_runs to authenticated;
grant update (arguments, outcome, state, progress, questions, refused, answers, cancel_asked, is_error, duration_ms,
  seen_at, ended_at) on public.trial_runs to authenticated;
create policy person_owns on public.trial_runs for all to authenticated
  using (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')))
  with check (user_id = auth.uid() and workspace_id in (select mooring.workspaces_as('member')));

-- Wakes who waits for this run alone: no other page has to look.
create function mooring.wake_trial_run() returns trigger
language plpgsql security definer set search_path = '' as $$
declare changed record;
begin
  if tg_op = 'DELETE' then changed := old; else changed := new; end if;
  perform pg_notify('mooring', json_build_object('table', 'trial_runs', 'workspace', null, 'server', null,
    'toolbox', null, 'agent', null, 'run', changed.id)::text);
  return null;
end $$;
create trigger wake after delete or update of outcome, state, progress, questions, refused, answers, cancel_asked
  on public.trial_runs for each row execute function mooring.wake_trial_run();
revoke all on function mooring.wake_trial_run from public;
