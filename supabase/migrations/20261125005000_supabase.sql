-- What the app needs where it runs on Supabase, beside the accounts of Supabase Auth.

-- `supabase db push` applies migrations as well: the app reads there which it stands on.
do $$ begin
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    grant usage on schema supabase_migrations to mooring_app;
    grant select on supabase_migrations.schema_migrations to mooring_app;
  end if;
end $$;

-- Which built-in catalog is in the tables: isolates come and go, and it is written once.
create table mooring.builtin_catalog (
  is_only boolean primary key default true check (is_only),
  version text not null
);
alter table mooring.builtin_catalog enable row level security;
alter table mooring.builtin_catalog force row level security;

-- True for the one that is to write this version.
create function mooring.builtin_catalog_differs(wanted text) returns boolean
language sql stable security definer set search_path = '' as $$
  select not exists (select from mooring.builtin_catalog where version = wanted)
$$;

create function mooring.note_builtin_catalog(written text) returns void
language sql security definer set search_path = '' as $$
  insert into mooring.builtin_catalog (version) values (written)
  on conflict (is_only) do update set version = excluded.version
$$;

-- The name of the person of a Supabase session, and their profile kept beside their account. Null when the
-- session was ended or the account deleted: an access token outlives both by an hour.
--
-- Anybody may sign up where a project lets them, so nobody becomes an owner by being first: that is the
-- person of `owner_address` alone, once Supabase has its proof that the address is theirs.
--
-- An account with a second factor is nobody's by a password alone (`level` is the token's `aal`).
create function mooring.supabase_person(person uuid, session uuid, level text, full_name text, owner_address text)
returns table (email text, name text)
language plpgsql security definer set search_path = '' as $$
declare
  address text; confirmed timestamptz; found_workspace uuid;
begin
  select u.email, u.email_confirmed_at into address, confirmed from auth.users u where u.id = person;
  if not found or not exists (select from auth.sessions s where s.id = session and s.user_id = person) then
    return;
  end if;
  if level is distinct from 'aal2'
    and exists (select from auth.mfa_factors f where f.user_id = person and f.status = 'verified') then
    return;
  end if;
  insert into public.profiles as p (user_id, email, name) values (person, coalesce(address, ''), full_name)
  on conflict (user_id) do update set email = excluded.email where p.email <> excluded.email;
  if confirmed is not null and lower(address) = lower(owner_address)
    and not exists (select from public.members) then
    perform pg_advisory_xact_lock(7001);
    if not exists (select from public.members) then
      select w.id into found_workspace from public.workspaces w order by w.created_at limit 1;
      if not found then
        found_workspace := gen_random_uuid();
        insert into public.workspaces (id, name) values (found_workspace, 'My workspace');
      end if;
      insert into public.members (workspace_id, user_id, role) values (found_workspace, person, 'owner');
    end if;
  end if;
  return query select p.email, p.name from public.profiles p where p.user_id = person;
end $$;

-- A person's own name; on Supabase their access token carries the old one for a while.
create function mooring.rename_person(person uuid, full_name text) returns void
language sql security definer set search_path = '' as $$
  update public.profiles set name = full_name where user_id = person
$$;

revoke all on function mooring.builtin_catalog_differs, mooring.note_builtin_catalog,
  mooring.supabase_person, mooring.rename_person from public;
grant execute on function mooring.builtin_catalog_differs, mooring.note_builtin_catalog,
  mooring.supabase_person, mooring.rename_person to mooring_app;
