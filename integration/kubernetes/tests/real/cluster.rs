//! A real API server and its etcd, in a network namespace of their own, with the manifests of `deploy` in force.

use hyper::Request;
use netd_lab::{Lab, Namespace};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that begins on a busy machine takes most of a minute.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Who the adapter is, as the manifests call it.
const ADAPTER: &str = "system:serviceaccount:netd-system:netd-kubernetes";

/// Killed when dropped, and also if the test is.
struct Process(Child);

impl Process {
    fn start(namespace: &Namespace, program: &Path, arguments: &[String], log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net={}", namespace.path().display())).arg("--").arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Cluster {
    // Dropped in this order: first who asks, then who is asked.
    processes: Mutex<Vec<Process>>,
    pub namespace: Namespace,
    _void: Namespace,
    pub folder: TempDir,
}

/// The program that a variable names, or that is in the usual places.
fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let usual = ["/usr/local/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
    let found = named.into_iter().chain(usual).find(|path| path.exists());
    if found.is_none() {
        eprintln!(
            "SKIPPED: there is no {name}; {variable} names one (docs/kubernetes.md says how it is built)"
        );
    }
    found
}

impl Cluster {
    /// Servers that begin; `None` after printing why there are none.
    pub fn start() -> Option<Self> {
        let lab = Lab::new()?;
        let server = program("NETD_KUBE_APISERVER", "kube-apiserver")?;
        let etcd = program("NETD_ETCD", "etcd")?;
        let (namespace, void) = (lab.namespace("kube"), lab.namespace("void"));
        namespace.veth("eth0", &void, "eth0");
        namespace.ip(&["addr", "add", "10.9.0.1/24", "dev", "eth0"]);
        namespace.ip(&["route", "add", "default", "via", "10.9.0.2"]);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let tokens = format!("admin,admin,1,system:masters\nadapter,{ADAPTER},2,\n");
        fs::write(path("tokens"), tokens).unwrap();
        let made = Command::new("openssl").args(["genrsa", "-out", &path("key"), "2048"]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let store = ["--data-dir".to_owned(), path("etcd")];
        let arguments = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--cert-dir={}", path("certificates")),
            "--secure-port=6443".to_owned(),
            "--advertise-address=10.9.0.1".to_owned(),
            format!("--token-auth-file={}", path("tokens")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-account-key-file={}", path("key")),
            format!("--service-account-signing-key-file={}", path("key")),
            "--service-account-issuer=https://netd.test".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // There is no controller that would make accounts for pods.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            // Servers before 1.21 have slices under another version: this one gets them by a definition.
            "--runtime-config=discovery.k8s.io/v1beta1=false".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        let processes = vec![
            Process::start(&namespace, &etcd, &store, Path::new(&path("etcd.log"))),
            Process::start(&namespace, &server, &arguments, Path::new(&path("server.log"))),
        ];
        Some(Self { processes: Mutex::new(processes), namespace, _void: void, folder })
    }

    /// Starts the adapter, with the permissions of the manifests.
    pub fn adapt(&self, arguments: &[&str]) {
        let path = |name: &str| self.folder.path().join(name);
        let named = |key: &str, value: Value| json!([{ "name": "test", key: value }]);
        let cluster = json!({ "server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": named("cluster", cluster),
            "users": named("user", json!({ "token": "adapter" })),
            "contexts": named("context", json!({ "cluster": "test", "user": "test", "namespace": "netd-system" })),
        });
        fs::write(path("config"), config.to_string()).unwrap();
        let adapter = assert_cmd::cargo::cargo_bin("netd-kubernetes").display().to_string();
        let mut all = vec![format!("KUBECONFIG={}", path("config").display()), adapter, "run".to_owned()];
        all.extend(["--output".to_owned(), path("desired.toml").display().to_string()]);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let process = Process::start(&self.namespace, Path::new("/usr/bin/env"), &all, &path("adapter.log"));
        self.processes.lock().unwrap().push(process);
    }

    /// The file that the adapter writes; empty before.
    pub fn file(&self) -> String {
        fs::read_to_string(self.folder.path().join("desired.toml")).unwrap_or_default()
    }

    /// What the adapter has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("adapter.log")).unwrap_or_default()
    }
}

/// Somebody who may do everything.
#[derive(Clone)]
pub struct Admin(kube::Client);

impl Admin {
    /// As soon as the server is there; to be made inside of the namespace.
    pub async fn connect(cluster: &Cluster) -> Self {
        let mut config = kube::Config::new("https://127.0.0.1:6443".parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some("admin".to_owned().into());
        let admin = Self(kube::Client::try_from(config).unwrap());
        let start = Instant::now();
        loop {
            let ready = admin.0.request_text(Request::get("/readyz").body(Vec::new()).unwrap()).await;
            if ready.is_ok() {
                return admin;
            }
            let log = fs::read_to_string(cluster.folder.path().join("server.log")).unwrap_or_default();
            assert!(start.elapsed() < DEADLINE, "{ready:?}\n{log}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn ask(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value, kube::Error> {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        self.0.request(request.body(body.to_string().into_bytes()).unwrap()).await
    }

    /// What is there.
    pub async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "application/json", &Value::Null).await.unwrap()
    }

    /// Makes an object in the list at the path; one whose definition is young is tried again.
    pub async fn make(&self, path: &str, object: Value) {
        let start = Instant::now();
        loop {
            match self.ask("POST", path, "application/json", &object).await {
                Ok(_) => return,
                Err(kube::Error::Api(status))
                    if matches!(status.code, 404 | 503) && start.elapsed() < DEADLINE =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => assert_eq!(format!("{error:?}"), "", "{path}: {object}"),
            }
        }
    }

    /// Changes an object by a merge patch.
    pub async fn change(&self, path: &str, patch: Value) {
        self.ask("PATCH", path, "application/merge-patch+json", &patch).await.unwrap();
    }

    /// Deletes an object.
    pub async fn delete(&self, path: &str) {
        self.ask("DELETE", path, "application/json", &Value::Null).await.unwrap();
    }

    /// The permissions of the manifests, of all components.
    pub async fn permit(&self) {
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        let components = [
            "egress/rbac",
            "write-status/rbac",
            "write-status/lease",
            "write-events/rbac",
            "write-events/lease",
            "write-key/rbac",
        ];
        let files = components.map(|name| format!("components/{name}.yaml"));
        for file in files.into_iter().chain(["rbac.yaml".to_owned()]) {
            let text = fs::read_to_string(deploy.join(file)).unwrap();
            for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                let path = match object["kind"].as_str().unwrap() {
                    "ClusterRole" => format!("{rbac}/clusterroles"),
                    "ClusterRoleBinding" => format!("{rbac}/clusterrolebindings"),
                    "Role" => format!("{rbac}/namespaces/netd-system/roles"),
                    "RoleBinding" => format!("{rbac}/namespaces/netd-system/rolebindings"),
                    other => {
                        assert_eq!(other, "ServiceAccount");
                        continue;
                    }
                };
                self.make(&path, object).await;
            }
        }
    }

    /// A kind that this server does not know by itself.
    pub async fn define(&self, kind: &str, plural: &str, (group, version): (&str, &str), scope: &str) {
        let open =
            json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{group}"),
                "annotations": { "api-approved.kubernetes.io": "unapproved, for a test" },
            },
            "spec": {
                "group": group,
                "scope": scope,
                "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
                "versions": [{ "name": version, "served": true, "storage": true, "schema": open }],
            },
        });
        self.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    }
}
