-- For whoever works on Mooring over a stack of the Supabase CLI on their own machine (`supabase start`,
-- `supabase db reset`): a person of each role, the password of the app's role, and a key in Vault. Sign in as
-- ann@mooring.test (owner), bob@mooring.test (member) or cho@mooring.test (viewer), "a password for developers".
--
-- These passwords are known to everybody. So nothing is done but where the CLI's own JWT secret is in place,
-- which is known to everybody as well and opens such a stack whole: never in a hosted project, whatever
-- `supabase db push --include-seed` is told. May be run any number of times.
do $seed$
declare
  workspace constant uuid := '5eed0000-0000-4000-8000-000000000001';
  person record;
begin
  if current_setting('app.settings.jwt_secret', true)
    is distinct from 'super-secret-jwt-token-with-at-least-32-characters-long' then
    raise notice 'This is no stack of the Supabase CLI on its own machine: nothing was seeded';
    return;
  end if;

  -- DATABASE_URL=postgres://mooring_app:mooring@db:5432/postgres
  alter role mooring_app login password 'mooring';

  -- SECRETS_KEY, another one on each machine.
  if to_regclass('vault.secrets') is not null
    and not exists (select from vault.secrets where name = 'mooring_secrets_key') then
    perform vault.create_secret(
      'local:' || encode(extensions.gen_random_bytes(32), 'base64'), 'mooring_secrets_key');
  end if;

  insert into public.workspaces (id, name) values (workspace, 'Development') on conflict do nothing;
  for person in
    select * from (values
      ('5eed0000-0000-4000-8000-00000000000a'::uuid, 'ann@mooring.test', 'Ann', 'owner'),
      ('5eed0000-0000-4000-8000-00000000000b'::uuid, 'bob@mooring.test', 'Bob', 'member'),
      ('5eed0000-0000-4000-8000-00000000000c'::uuid, 'cho@mooring.test', 'Cho', 'viewer')
    ) as people (id, email, name, role)
  loop
    -- The empty ones: Supabase Auth reads no null there.
    insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
      raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
      confirmation_token, recovery_token, email_change_token_new, email_change)
    values ('00000000-0000-0000-0000-000000000000', person.id, 'authenticated', 'authenticated', person.email,
      extensions.crypt('a password for developers', extensions.gen_salt('bf')), now(),
      '{"provider": "email", "providers": ["email"]}', jsonb_build_object('name', person.name), now(), now(),
      '', '', '', '')
    on conflict do nothing;
    insert into auth.identities (provider_id, user_id, provider, identity_data, created_at, updated_at)
    values (person.id::text, person.id, 'email',
      jsonb_build_object('sub', person.id, 'email', person.email, 'email_verified', true), now(), now())
    on conflict do nothing;
    insert into public.profiles (user_id, email, name) values (person.id, person.email, person.name)
    on conflict do nothing;
    insert into public.members (workspace_id, user_id, role) values (workspace, person.id, person.role)
    on conflict do nothing;
  end loop;
end $seed$;
