import { type Bridge, type Client, CLIENTS, KINDS, TOKEN_PLACEHOLDER } from "./clients.ts";
import { Copy } from "./parts.tsx";

/**
 * What to paste into a client; with the token while it is known, else with a place for it. One client
 * is open at a time, by `details` of one name, so it needs no script.
 */
export function ClientConfiguration(
  { bridgeUrl, newToken, clientsSignIn }: {
    bridgeUrl: string;
    newToken: string | null;
    clientsSignIn: boolean;
  },
) {
  const bridge = { url: bridgeUrl, token: newToken ?? TOKEN_PLACEHOLDER };
  return (
    <section class="card clients" aria-labelledby="client">
      <h2 id="client">Client configuration</h2>
      <p class="help">
        {newToken ? "With the token that was just made. Keep files that hold it to yourself." : (
          <>
            Put a token in the place of <code>{TOKEN_PLACEHOLDER}</code>.
          </>
        )}
      </p>
      {clientsSignIn && (
        <p class="help">
          Or give the client nothing but the address,{" "}
          <code>{bridgeUrl}</code>: one that speaks OAuth has you sign in, and you choose this
          agent.
        </p>
      )}
      {KINDS.map((kind) => (
        <>
          <h3>{kind}</h3>
          {CLIENTS.filter((client) => client.kind === kind).map((client) => (
            <OneClient client={client} bridge={bridge} isOpen={client === CLIENTS[0]} />
          ))}
        </>
      ))}
    </section>
  );
}

function OneClient(
  { client, bridge, isOpen }: { client: Client; bridge: Bridge; isOpen: boolean },
) {
  const { id, name, note } = client;
  const link = client.link?.(bridge.url);
  return (
    <details name="client" open={isOpen}>
      <summary>{name}</summary>
      {client.ways(bridge).map(({ where, text }, index) => (
        <>
          <p class="where">{where}</p>
          <Copy
            id={`client-${id}${index ? `-${index + 1}` : ""}`}
            text={text}
            label={`the configuration for ${name}: ${where}`}
          />
        </>
      ))}
      {link && (
        <p>
          <a href={link.href}>{link.label}</a>
        </p>
      )}
      {note && <p class="help">{note}</p>}
      <p class="help">
        <a href={client.source} rel="noreferrer">{name}’s own documentation</a>
      </p>
    </details>
  );
}
