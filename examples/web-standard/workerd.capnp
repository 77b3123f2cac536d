# The worker of `npm run bundle`. `workerd serve workerd.capnp` runs it on this machine, as Cloudflare does on its own.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:3000", http = (), service = "main")]
);

const main :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "dist/workerd.js")],
  compatibilityDate = "2026-11-01",
  bindings = [
    (name = "SERVER", durableObjectNamespace = "ServerObject"),
    (name = "PUBLIC_URL", fromEnvironment = "PUBLIC_URL")
  ],
  durableObjectNamespaces = [(className = "ServerObject", uniqueKey = "sallyport-web-standard")],
  durableObjectStorage = (inMemory = void)
);
