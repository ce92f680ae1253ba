-- An agent may have an account of its own at a remote server, in place of the one that the server is called with
-- for all.
alter table public.authorizations
  -- Sealed for it. Of the server's own account it is the server's id; of an agent's another with each sign-in.
  add column id uuid,
  -- Null: the server's own.
  add column agent_id uuid;
update public.authorizations set id = server_id;
create function mooring.name_authorization() returns trigger language plpgsql set search_path = '' as $$
begin
  new.id := coalesce(new.id, new.server_id);
  return new;
end $$;
revoke all on function mooring.name_authorization from public;
create trigger name before insert on public.authorizations
  for each row execute function mooring.name_authorization();
alter table public.authorizations
  drop constraint authorizations_pkey,
  add primary key (id),
  add constraint one_account unique nulls not distinct (server_id, agent_id),
  add foreign key (agent_id, server_id) references public.connections (agent_id, server_id) on delete cascade,
  add check (agent_id is not null or id = server_id);
grant select (id, agent_id) on public.authorizations to authenticated;

-- An agent: of the server's account, and of its own.
drop policy agent_reads on public.authorizations;
create policy agent_reads on public.authorizations for select to mooring_agent
  using (server_id in (select c.server_id from public.connections c)
    and (agent_id is null or agent_id = mooring.agent_id()));
grant select (agent_id) on public.authorizations to mooring_agent;

-- Sign-ins that are under way: for whom.
alter table mooring.authorization_requests add column agent_id uuid references public.agents (id) on delete cascade;
drop function mooring.put_authorization_request;
create function mooring.put_authorization_request(state text, browser text, person uuid, server uuid, key text,
  nonce bytea, sealed bytea, agent uuid default null) returns void
language sql security definer set search_path = '' as $$
  delete from mooring.authorization_requests where expires_at < now();
  insert into mooring.authorization_requests
    (state_hash, browser_hash, user_id, server_id, agent_id, key_id, iv, ciphertext)
  values (state, browser, person, server, agent, key, nonce, sealed);
$$;
drop function mooring.take_authorization_request;
create function mooring.take_authorization_request(state text, browser text, person uuid)
returns table (server_id uuid, agent_id uuid, key_id text, iv bytea, ciphertext bytea)
language sql security definer set search_path = '' as $$
  delete from mooring.authorization_requests r
  where r.state_hash = state and r.browser_hash = browser and r.user_id = person and r.expires_at > now()
  returning r.server_id, r.agent_id, r.key_id, r.iv, r.ciphertext
$$;
revoke all on function mooring.put_authorization_request, mooring.take_authorization_request from public;
grant execute on function mooring.put_authorization_request, mooring.take_authorization_request to mooring_app;

-- As before, by what each is sealed for.
create or replace function mooring.secrets_to_mask(workspace uuid)
returns table (id uuid, key_id text, iv bytea, ciphertext bytea)
language sql stable security definer set search_path = '' as $$
  select s.id, s.key_id, s.iv, s.ciphertext from (
    select id, workspace_id, key_id, iv, ciphertext from public.secrets
    union all select id, workspace_id, key_id, iv, ciphertext from public.connection_secrets
    union all select id, workspace_id, key_id, iv, ciphertext from public.authorizations
      where ciphertext is not null) s
  join public.workspaces w on w.id = s.workspace_id and w.keeps_bodies
  where s.workspace_id = workspace
$$;
