-- OpenAPI documents of REST APIs: one that was given and of which no server was made yet (a draft, without a
-- server or not used by it yet), and those that servers were made of, from which other operations are chosen.
create table public.api_documents (
  id uuid primary key,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  server_id uuid,
  -- When the server's operations were chosen from it; null of a draft.
  used_at timestamptz,
  -- Null: it was uploaded or pasted.
  source_url text check (char_length(source_url) <= 2000),
  title text not null check (char_length(title) <= 80),
  version text not null check (char_length(version) <= 60),
  openapi text not null check (char_length(openapi) <= 40),
  description text not null check (char_length(description) <= 4000),
  -- OpenAPI 3.1 as JSON, and what its page is made of (models/api_servers.ts): texts, which keep the order
  -- of members.
  document text not null check (octet_length(document) <= 24 * 1024 * 1024),
  summary text not null check (octet_length(summary) <= 8 * 1024 * 1024),
  created_at timestamptz not null default now(),
  check (used_at is null or server_id is not null),
  foreign key (server_id, workspace_id) references public.servers (id, workspace_id) on delete cascade
);
create index on public.api_documents (server_id, used_at desc);
create index on public.api_documents (workspace_id, created_at);
alter table public.api_documents enable row level security;
alter table public.api_documents force row level security;
-- What a Supabase project grants by default on each new table.
revoke all on public.api_documents from public, anon, authenticated;
grant select, insert, delete on public.api_documents to authenticated;
grant update (server_id, used_at) on public.api_documents to authenticated;
create policy members_see on public.api_documents for select to authenticated
  using (workspace_id in (select mooring.workspaces_as('viewer')));
create policy members_add on public.api_documents for insert to authenticated
  with check (workspace_id in (select mooring.workspaces_as('member')));
create policy members_change on public.api_documents for update to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')))
  with check (workspace_id in (select mooring.workspaces_as('member')));
create policy members_remove on public.api_documents for delete to authenticated
  using (workspace_id in (select mooring.workspaces_as('member')));
