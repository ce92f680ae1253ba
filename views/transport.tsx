import type { Transport } from "../dtma/protocol.ts";
import { Field } from "./parts.tsx";

/** How a server speaks, as the end of a sentence: `on standard input and output`. */
export function transportTitle(transport: Transport): string {
  if (transport.type === "stdio") return "on standard input and output";
  const { type, port, path } = transport;
  const name = type === "sse" ? "HTTP+SSE" : "Streamable HTTP";
  return `over ${name}, at port ${port} and path ${path} of its container`;
}

/** A server's or an entry's row in its list of facts. */
export function TransportFacts({ of: transport }: { of: Transport }) {
  return (
    <>
      <dt>Speaks</dt>
      <dd>MCP {transportTitle(transport)}</dd>
    </>
  );
}

/** The fields that say how a server speaks. */
export function TransportFields({ transport, values = {}, mistakes }: {
  transport: Transport;
  values?: Record<string, string>;
  mistakes: Record<string, string>;
}) {
  const chosen = values["option.transport"] ?? transport.type;
  const { port, path } = transport.type === "stdio" ? { port: "", path: "" } : transport;
  const id = "field-option-transport";
  const mistake = mistakes["option.transport"];
  return (
    <>
      <div class="field">
        <label for={id}>How it speaks</label>
        <select
          id={id}
          name="option.transport"
          aria-invalid={mistake ? "true" : undefined}
          aria-describedby={`${id}-help${mistake ? ` ${id}-mistake` : ""}`}
        >
          <option value="stdio" selected={chosen === "stdio"}>
            On standard input and output (stdio)
          </option>
          <option value="streamable-http" selected={chosen === "streamable-http"}>
            Over Streamable HTTP
          </option>
          <option value="sse" selected={chosen === "sse"}>
            Over HTTP+SSE, as older servers do
          </option>
        </select>
        {mistake && <p class="mistake" id={`${id}-mistake`}>{mistake}</p>}
        <p class="help" id={`${id}-help`}>
          A server that speaks HTTP is reached within its container: no port is opened on the
          toolbox.
        </p>
      </div>
      <Field
        name="option.port"
        label="Port, over HTTP"
        type="number"
        value={values["option.port"] ?? String(port)}
        mistake={mistakes["option.port"]}
        placeholder="3000"
        help="That it listens on in its container."
      />
      <Field
        name="option.path"
        label="Path, over HTTP"
        value={values["option.path"] ?? path}
        mistake={mistakes["option.path"]}
        placeholder="/mcp"
        autocomplete="off"
        help="Of its endpoint; mostly /mcp, and /sse over HTTP+SSE."
      />
    </>
  );
}
