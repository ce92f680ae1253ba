-- Passkeys of the accounts that better-auth keeps: what its plugin writes. A Supabase project keeps its
-- own accounts, and what signs them in with them.
do $$ begin
  if to_regclass('auth.accounts') is null then return; end if;

  create table auth.passkeys (
    id uuid primary key,
    "userId" uuid not null references auth.users (id) on delete cascade,
    name text,
    -- Public, as the name says: what is secret never leaves the authenticator.
    "publicKey" text not null,
    "credentialID" text not null unique,
    -- Of signatures, as the authenticator counts them (WebAuthn, section 6.1.1): 32 bits without a sign.
    counter bigint not null,
    "deviceType" text not null,
    "backedUp" boolean not null,
    transports text,
    aaguid text,
    "createdAt" timestamptz,
    "lastUsedAt" timestamptz
  );
  create index on auth.passkeys ("userId");
  grant select, insert, update, delete on auth.passkeys to mooring_app;
end $$;
