import type { Child } from "hono/jsx";
import { Confirm, Time } from "./parts.tsx";

/** What an agent's token and a person's have in common. */
interface Token {
  name: string;
  expiresAt: Date | null;
  revokedAt: Date | null;
  lastUsedAt: Date | null;
}

/** A token in a list: what became of it, and the way to end it while it works. */
export function TokenRow(
  { token, revoke, children }: {
    token: Token;
    /** The address that revokes it. */
    revoke: string;
    /** What it may do, where tokens differ in that. */
    children?: Child;
  },
) {
  return (
    <li>
      <span>{token.name}</span>
      <small>
        {children}
        <State token={token} />
      </small>
      {isLive(token) && (
        <Confirm label="Revoke" title={`Revoke ${token.name}?`} action={revoke}>
          <p>What uses it is refused from its next request on.</p>
        </Confirm>
      )}
    </li>
  );
}

export function isLive({ revokedAt, expiresAt }: Token): boolean {
  return !revokedAt && (!expiresAt || expiresAt > new Date());
}

function State({ token }: { token: Token }) {
  const { revokedAt, expiresAt, lastUsedAt } = token;
  if (revokedAt) {
    return (
      <>
        revoked <Time at={revokedAt} relative />
      </>
    );
  }
  if (expiresAt && !isLive(token)) {
    return (
      <>
        expired <Time at={expiresAt} relative />
      </>
    );
  }
  return (
    <>
      {lastUsedAt
        ? (
          <>
            used <Time at={lastUsedAt} relative />
          </>
        )
        : "not used yet"}
      {expiresAt
        ? (
          <>
            , expires <Time at={expiresAt} relative />
          </>
        )
        : ", does not expire"}
    </>
  );
}
