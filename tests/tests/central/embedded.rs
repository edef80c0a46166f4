//! The embedded registry: states straight into the store, and its door over a real socket.

use crate::{STATE, failure, publishes, want};
use async_trait::async_trait;
use ground_control::central::{Accounts, Central, Embedded, Error, Health, Result, RobotBook, RobotRecord};
use satellite_core::net::server::{Limits, Server};
use satellite_core::oci::Repository;
use satellite_core::registry::Metrics;
use satellite_core::store::{Options, Store};
use satellite_tests::http::Client;
use satellite_tests::image::Image;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A book in memory, that can be closed.
#[derive(Default)]
struct Book {
    rows: Mutex<BTreeMap<String, RobotRecord>>,
    closed: AtomicBool,
}

impl Book {
    fn open(&self) -> Result<std::sync::MutexGuard<'_, BTreeMap<String, RobotRecord>>> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::transient("database", "away"));
        }
        Ok(self.rows.lock().unwrap())
    }
}

#[async_trait]
impl RobotBook for Book {
    async fn by_id(&self, id: &str) -> Result<Option<RobotRecord>> {
        Ok(self.open()?.get(id).cloned())
    }
    async fn by_login(&self, login: &str) -> Result<Option<RobotRecord>> {
        Ok(self.open()?.values().find(|r| r.login == login).cloned())
    }
    async fn put(&self, record: &RobotRecord) -> Result<()> {
        self.open()?.insert(record.id.clone(), record.clone());
        Ok(())
    }
    async fn remove(&self, id: &str) -> Result<()> {
        self.open()?.remove(id);
        Ok(())
    }
    async fn all(&self) -> Result<Vec<RobotRecord>> {
        Ok(self.open()?.values().cloned().collect())
    }
}

/// One user.
struct Ops;

#[async_trait]
impl Accounts for Ops {
    async fn verify(&self, user: &str, password: &str) -> Result<bool> {
        Ok((user, password) == ("ops", "password"))
    }
}

struct Setup {
    book: Arc<Book>,
    store: Store,
    central: Embedded,
    _dir: tempfile::TempDir,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::open(dir.path(), Options { grace: std::time::Duration::ZERO, ..Options::default() }).unwrap();
    let book = Arc::new(Book::default());
    let central = Embedded::new("http://127.0.0.1:9090", store.clone(), book.clone(), 30).unwrap();
    Setup { book, store, central, _dir: dir }
}

#[test]
fn states_are_published_replaced_and_removed_and_their_room_given_back() {
    let Setup { store, central, _dir, .. } = setup();
    smol::block_on(async {
        assert_eq!(central.health().await, Health::Well);
        publishes(&central).await;
        let before = store.usage().await.unwrap().bytes;
        central.collect().await.unwrap();
        assert!(store.usage().await.unwrap().bytes < before);
        central.publish(STATE, b"1", 10).await.unwrap();
        let repository: Repository = STATE.parse().unwrap();
        central.publish(STATE, b"2", 20).await.unwrap();
        assert_eq!(store.manifests(&repository, None).count(), 1);
        central.collect().await.unwrap();
        assert!(central.resolve(STATE, "20").await.unwrap().is_some());
    });
}

#[test]
fn robots_are_records_made_once_narrowed_rotated_and_removed() {
    let Setup { book, central, _dir, .. } = setup();
    smol::block_on(async {
        let made = central.ensure_robot(&want("sat1", &["edge", "satellite"])).await.unwrap();
        let secret = made.secret.unwrap();
        assert_eq!((made.login.as_str(), secret.expose().len()), ("robot$sat1", 32));
        assert!(!format!("{:?}", book.rows.lock().unwrap()).contains(secret.expose()));
        let again = central.ensure_robot(&want("sat1", &["edge"])).await.unwrap();
        assert_eq!((again.id.as_str(), again.secret.is_none()), (made.id.as_str(), true));
        assert_eq!(book.rows.lock().unwrap()[&made.id].projects.len(), 1);
        let rotated = central.rotate_robot(&made.id).await.unwrap();
        assert_ne!(rotated.secret, Some(secret));
        assert_eq!(central.list_robots().await.unwrap().len(), 1);
        assert_eq!(central.find_robot("sat1").await.unwrap().unwrap().id, made.id);
        assert_eq!(central.find_robot("sat2").await.unwrap(), None);
        central.delete_robot(&made.id).await.unwrap();
        central.delete_robot(&made.id).await.unwrap();
        assert_eq!(failure(central.rotate_robot(&made.id).await), ("not_found", false));
        book.closed.store(true, Ordering::Relaxed);
        assert_eq!(failure(central.ensure_robot(&want("sat1", &["edge"])).await), ("database", true));
    });
}

#[test]
fn users_push_robots_pull_from_their_projects_and_nobody_else_gets_in() {
    let Setup { book, central, _dir, .. } = setup();
    let made = smol::block_on(central.ensure_robot(&want("sat1", &["edge", "satellite"]))).unwrap();
    let secret = made.secret.unwrap();
    let registry = central.registry(Arc::new(Ops), Arc::new(Metrics::default()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let server = std::thread::spawn(move || {
        let executor = Arc::new(smol::Executor::new());
        let server = Server::new(vec![listener], Arc::new(registry), Limits::default(), None).unwrap();
        smol::block_on(executor.run(server.run(&executor, async move {
            let _ = stopped.recv().await;
        })));
    });
    let anonymous = Client::new(address);
    let ops = anonymous.clone().basic("ops", "password");
    let robot = anonymous.clone().basic("robot$sat1", secret.expose());
    let image = Image::new().noise(1000, 1).build();
    image.push(&ops, "edge/app", "v1");
    image.push(&ops, "other/app", "v1");
    image.check(&robot, "edge/app", "v1");
    smol::block_on(central.publish(STATE, b"{}", 1)).unwrap();
    robot.get(&format!("/v2/{STATE}/manifests/latest")).expect(200);
    robot.get("/v2/").expect(200);
    let blob = &image.blobs[0].digest;
    for (who, method, target, status) in [
        (&anonymous, "GET", "/v2/".to_string(), 401),
        (&anonymous, "GET", "/v2/edge/app/manifests/v1".into(), 401),
        (&anonymous, "GET", format!("/v2/edge/app/blobs/{blob}"), 401),
        (&robot, "GET", "/v2/other/app/manifests/v1".into(), 403),
        (&robot, "GET", "/v2/other/nosuch/manifests/v1".into(), 403),
        (&robot, "GET", format!("/v2/other/app/blobs/{blob}"), 403),
        (&robot, "GET", "/v2/edge/app/manifests/v1?ns=elsewhere.example".into(), 200),
        (&robot, "GET", "/v2/other/app/manifests/v1?ns=edge.example".into(), 403),
        (&robot, "GET", "/edge/v2/other/app/manifests/v1".into(), 403),
        (&robot, "GET", "/v2/other%2Fapp/manifests/v1".into(), 403),
        (&robot, "GET", "/v2/_catalog".into(), 403),
        (&robot, "POST", "/v2/edge/app/blobs/uploads/".into(), 403),
        (&robot, "POST", format!("/v2/edge/app/blobs/uploads/?mount={blob}&from=other/app"), 403),
        (&robot, "DELETE", "/v2/edge/app/manifests/v1".into(), 403),
        (&robot.clone().basic("robot$sat1", "wrong"), "GET", "/v2/".into(), 401),
        (&robot.clone().basic("robot$sat2", "wrong"), "GET", "/v2/".into(), 401),
        (&robot.clone().basic("ops", "wrong"), "GET", "/v2/".into(), 401),
        (&ops, "GET", "/v2/_catalog".into(), 200),
        (&ops, "POST", format!("/v2/new/app/blobs/uploads/?mount={blob}&from=other/app"), 201),
        (&ops, "POST", format!("/v2/new/app/blobs/uploads/?mount={blob}"), 403),
    ] {
        let request = satellite_tests::http::Request::new(method, &target).header("Content-Length", "0");
        let request = request.header("Accept", satellite_tests::oci::ANY_MANIFEST);
        let answer = who.send(&request);
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        if status == 401 {
            assert!(answer.header("www-authenticate").is_some_and(|c| c.starts_with("Basic ")));
        }
    }
    // Rights that are gone are gone with the next request.
    smol::block_on(central.ensure_robot(&want("sat1", &["satellite"]))).unwrap();
    robot.get("/v2/edge/app/manifests/v1").expect(403);
    let expired = RobotRecord { expires_at: Some(1), ..book.rows.lock().unwrap()[&made.id].clone() };
    smol::block_on(book.put(&expired)).unwrap();
    robot.get("/v2/").expect(401);
    book.closed.store(true, Ordering::Relaxed);
    robot.get("/v2/").expect(503);
    drop(stop);
    server.join().unwrap();
}
