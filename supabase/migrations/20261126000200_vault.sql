-- SECRETS_KEY out of Supabase Vault, for an app that is not given it by its environment.

-- Null where there is no Vault, or no secret of that name in it. Looked up by name as it runs: the schema is
-- there on Supabase alone. Its rights in Vault are those of whoever applies migrations, `postgres` on Supabase.
create function mooring.secrets_key() returns text
language plpgsql stable security definer set search_path = '' as $$
declare found_key text;
begin
  if not exists (select from pg_catalog.pg_namespace where nspname = 'vault')
    or to_regclass('vault.decrypted_secrets') is null then
    return null;
  end if;
  execute 'select decrypted_secret from vault.decrypted_secrets where name = $1'
    into found_key using 'mooring_secrets_key';
  return found_key;
end $$;

-- It opens every tenant's secrets. Supabase's own roles are named: by its default grants they have what is new.
revoke all on function mooring.secrets_key from public, anon, authenticated, service_role;
grant execute on function mooring.secrets_key to mooring_app;
