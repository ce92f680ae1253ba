import type { Server } from "../models/servers.ts";
import { Form } from "./form.tsx";
import { Field, Mistake } from "./parts.tsx";
import { useUrl } from "./url.ts";

export interface AddApiProps {
  values: Record<string, string>;
  mistakes: Record<string, string>;
  message?: string;
  /** The server that a newer document is given for. */
  of?: Server;
}

/** The form that takes an OpenAPI document. */
export function AddApi({ of, ...props }: AddApiProps) {
  const url = useUrl();
  return (
    <>
      {of
        ? (
          <p class="crumbs">
            <a href={url("/servers")}>Servers</a> / <a href={url(`/servers/${of.id}`)}>{of.name}</a>
            {" "}
            / Operations
          </p>
        )
        : (
          <p class="crumbs">
            <a href={url("/marketplace")}>Marketplace</a> / REST API
          </p>
        )}
      <h1>{of ? `Operations of ${of.name}` : "Add a REST API"}</h1>
      <p class="lead">
        {of
          ? "No document of this API is kept here. Give it, and choose the operations from it."
          : "Any API that has an OpenAPI document: choose its operations, and each becomes a tool. A " +
            "small adapter runs on your toolbox in a container that reaches this API's host and " +
            "nothing else."}
      </p>
      <DocumentForm {...props} action={url(of ? `/servers/${of.id}/api` : "/servers/api")} />
    </>
  );
}

/** What a document begins like, for whoever pastes one. */
const DOCUMENT_START = "openapi: 3.1.0\ninfo:\n  title: …";

/** Where an OpenAPI document comes from: its address, a file, or its text. */
export function DocumentForm(
  { values, mistakes, message, action }: Omit<AddApiProps, "of"> & { action: string },
) {
  return (
    <Form action={action} enctype="multipart/form-data" class="card">
      <Mistake>{message}</Mistake>
      <Field
        name="url"
        label="Address of its OpenAPI document"
        type="url"
        value={values.url}
        mistake={mistakes.url}
        placeholder="https://api.example.com/openapi.json"
        help="OpenAPI 3.1 or 3.0, or Swagger 2.0, as JSON or YAML. It is shown on pages: put no key in it."
      />
      <div class="field">
        <label for="field-file">Or a file</label>
        <input
          id="field-file"
          type="file"
          name="file"
          accept=".json,.yaml,.yml,application/json,application/yaml"
          aria-describedby="field-file-help"
        />
        <p class="help" id="field-file-help">Up to 16 MiB as JSON, 4 MiB as YAML.</p>
      </div>
      <Field
        name="document"
        label="Or its text"
        rows={6}
        value={values.document}
        mistake={mistakes.document}
        placeholder={DOCUMENT_START}
      />
      <button>Choose operations</button>
    </Form>
  );
}
