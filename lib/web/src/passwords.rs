//! Checking the passwords of HTTP's basic authentication (RFC 7617) against bcrypt hashes.
//!
//! bcrypt is slow on purpose: a tenth of a second and more of a processor, by the hash's cost. So answers are remembered,
//! and a flood of guesses must not keep anybody out: a password that was right once is known without a check and is never
//! displaced by wrong ones; checks run one at a time on a thread apart; and only so many may wait, of which one address has
//! few, so that a new password from elsewhere gets its turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::hmac::{HMAC_SHA256, Key};
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

/// Leaves the other processors of a Pi to what it is there for.
const AT_ONCE: usize = 1;
/// Checks that wait, all together.
const MOST_WAITING: usize = 64;
/// Of one address: a Prometheus asks for its jobs at the same time.
const MOST_WAITING_OF_ONE: usize = 4;
/// Wrong passwords that are remembered, so that a client which repeats an old one costs nothing.
const MOST_WRONG: usize = 128;

/// As long as a check may take on a Pi (about a tenth of a second): the passwords that it stands before are random.
const COST: u32 = 10;

/// The hash of a password, for `basic_auth_users` of a web configuration. An error says that there are no random numbers.
pub fn hash_password(password: &str) -> std::io::Result<String> {
    use ring::rand::SecureRandom as _;
    let failed = |what: String| std::io::Error::other(format!("hashing a password: {what}"));
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| failed("no random numbers from the kernel".to_owned()))?;
    let parts = bcrypt::hash_with_salt(password, COST, salt).map_err(|error| failed(error.to_string()))?;
    Ok(parts.to_string())
}

/// Whether a hash is that of a password.
pub fn is_password(password: &str, hash: &str) -> bool {
    bcrypt::verify(password, hash).unwrap_or(false)
}

/// Hashes by name.
pub(crate) type Users = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many are waiting for a check.
    Busy,
}

/// Stands for a name, a password and the hash it was checked against; says nothing about them without the key.
type Mark = [u8; 32];

pub(crate) struct Passwords {
    key: Key,
    places: Arc<Semaphore>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// The last right one of each user.
    right: HashMap<String, Mark>,
    /// The oldest first.
    wrong: VecDeque<Mark>,
    waiting: HashMap<IpAddr, usize>,
}

impl Passwords {
    /// Fails when the kernel gives no random numbers.
    pub fn new() -> std::io::Result<Passwords> {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| std::io::Error::other("no random numbers from the kernel"))?;
        Ok(Passwords { key, places: Arc::new(Semaphore::new(AT_ONCE)), known: Arc::default() })
    }

    /// Whether `password` is that of `name`. Takes as long for a name that there is not.
    pub async fn check(&self, users: &Users, name: &[u8], password: &[u8], from: IpAddr) -> Verdict {
        let user = str::from_utf8(name).ok().and_then(|name| users.get_key_value(name));
        let Some(hash) = user.map(|(_, hash)| hash).or_else(|| slowest(users)) else { return Verdict::Wrong };
        let mark = self.mark(name, hash, password);
        let user = user.map(|(name, _)| name);
        if let Some(verdict) = self.known().verdict(user, &mark) {
            return verdict;
        }
        let Some(_waiting) = Waiting::begin(self, from) else { return Verdict::Busy };
        // The semaphore is never closed, so a permit always comes.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // Another request with the same may have been checked meanwhile.
        if let Some(verdict) = self.known().verdict(user, &mark) {
            return verdict;
        }
        let (user, password, hash) = (user.cloned(), password.to_vec(), hash.clone());
        let known = Arc::clone(&self.known);
        let check = tokio::task::spawn_blocking(move || {
            // Given back, and the answer remembered, also when nobody waits for it any more: on a slow machine a client may
            // give up, and ask again.
            let _place = place;
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false);
            lock(&known).remember(user.filter(|_| is_right), mark)
        });
        check.await.unwrap_or(Verdict::Wrong)
    }

    /// Forgets those who are no longer among `users`.
    pub fn keep(&self, users: &Users) {
        self.known().right.retain(|name, _| users.contains_key(name));
    }

    fn mark(&self, name: &[u8], hash: &str, password: &[u8]) -> Mark {
        let mut context = ring::hmac::Context::with_key(&self.key);
        // With their lengths, so that no two triples give the same bytes.
        for part in [name, hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut mark = Mark::default();
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[passwords]")
    }
}

/// What an unknown name is checked against.
fn slowest(users: &Users) -> Option<&String> {
    // `$2b$10$`: the cost is two digits. The configuration has checked it.
    users.values().max_by_key(|hash| hash.get(4..6))
}

impl Known {
    fn verdict(&self, user: Option<&String>, mark: &Mark) -> Option<Verdict> {
        if user.is_some_and(|user| self.right.get(user) == Some(mark)) {
            return Some(Verdict::Right);
        }
        self.wrong.contains(mark).then_some(Verdict::Wrong)
    }

    /// `user` when the password was right.
    fn remember(&mut self, user: Option<String>, mark: Mark) -> Verdict {
        if let Some(user) = user {
            self.right.insert(user, mark);
            return Verdict::Right;
        }
        if self.wrong.len() >= MOST_WRONG {
            self.wrong.pop_front();
        }
        self.wrong.push_back(mark);
        Verdict::Wrong
    }
}

/// A place among those who wait for a check.
struct Waiting<'a> {
    passwords: &'a Passwords,
    from: IpAddr,
}

impl<'a> Waiting<'a> {
    fn begin(passwords: &'a Passwords, from: IpAddr) -> Option<Waiting<'a>> {
        let from = neighbourhood(from);
        let mut known = passwords.known();
        let of_one = known.waiting.get(&from).copied().unwrap_or(0);
        if of_one >= MOST_WAITING_OF_ONE || known.waiting.values().sum::<usize>() >= MOST_WAITING {
            return None;
        }
        known.waiting.insert(from, of_one + 1);
        Some(Waiting { passwords, from })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut known = self.passwords.known();
        if let Some(count) = known.waiting.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                known.waiting.remove(&self.from);
            }
        }
    }
}

/// One machine has a whole /64 of IPv6.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use super::*;

    fn hash(password: &str, cost: u32) -> String {
        bcrypt::hash_with_salt(password, cost, [7; 16]).unwrap().to_string()
    }

    fn users() -> Users {
        Users::from([("alice".to_owned(), hash("secret", 5)), ("bob".to_owned(), hash("pass:word", 4))])
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let (passwords, users) = (Passwords::new().unwrap(), users());
        // Twice: checked, and remembered.
        for _ in 0..2 {
            for (name, password, expected) in [
                ("alice", "secret", Verdict::Right),
                ("alice", "Secret", Verdict::Wrong),
                ("alice", "", Verdict::Wrong),
                ("alice", "pass:word", Verdict::Wrong),
                ("bob", "pass:word", Verdict::Right),
                ("carol", "secret", Verdict::Wrong),
                ("", "secret", Verdict::Wrong),
            ] {
                let found = passwords.check(&users, name.as_bytes(), password.as_bytes(), address(1)).await;
                assert_eq!(found, expected, "{name} {password}");
            }
            assert_eq!(passwords.check(&users, b"\xff", b"\xff", address(1)).await, Verdict::Wrong);
        }
        assert_eq!(passwords.check(&Users::new(), b"alice", b"secret", address(1)).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_changed_hash_or_user_is_not_remembered() {
        let (passwords, mut users) = (Passwords::new().unwrap(), users());
        assert_eq!(passwords.check(&users, b"alice", b"secret", address(1)).await, Verdict::Right);
        users.insert("alice".to_owned(), hash("other", 4));
        passwords.keep(&users);
        assert_eq!(passwords.check(&users, b"alice", b"secret", address(1)).await, Verdict::Wrong);
        assert_eq!(passwords.check(&users, b"alice", b"other", address(1)).await, Verdict::Right);
        users.remove("alice");
        passwords.keep(&users);
        assert_eq!(passwords.check(&users, b"alice", b"other", address(1)).await, Verdict::Wrong);
        assert!(passwords.known().right.is_empty());
    }

    #[test]
    fn an_unknown_name_costs_what_the_slowest_costs() {
        let users = Users::from([
            ("a".to_owned(), hash("x", 4)),
            ("b".to_owned(), hash("x", 6)),
            ("c".to_owned(), hash("x", 5)),
        ]);
        assert_eq!(slowest(&users), users.get("b"));
    }

    #[tokio::test]
    async fn a_flood_of_guesses_keeps_nobody_out() {
        // A cost at which a check takes about a tenth of a second, in a build without optimisation more.
        let users = Users::from([("alice".to_owned(), hash("secret", 4)), ("slow".to_owned(), hash("x", 9))]);
        let passwords = Arc::new(Passwords::new().unwrap());
        assert_eq!(passwords.check(&users, b"alice", b"secret", address(1)).await, Verdict::Right);
        let guess = |number: u32| {
            let (passwords, users) = (Arc::clone(&passwords), users.clone());
            tokio::spawn(async move { passwords.check(&users, b"slow", &number.to_le_bytes(), address(66)).await })
        };
        let guesses: Vec<_> = (0..1000).map(guess).collect();
        while passwords.known().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        // Who is known passes at once, from whatever address.
        let begin = Instant::now();
        assert_eq!(passwords.check(&users, b"alice", b"secret", address(66)).await, Verdict::Right);
        assert!(begin.elapsed() < Duration::from_secs(1));
        // Who is not gets a turn, from an address that does not guess.
        assert_eq!(passwords.check(&users, b"slow", b"x", address(2)).await, Verdict::Right);
        let mut busy = 0;
        for guess in guesses {
            busy += usize::from(guess.await.unwrap() == Verdict::Busy);
        }
        assert_eq!(busy, 1000 - MOST_WAITING_OF_ONE, "the others of that address are turned away");
        assert!(passwords.known().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_check_counts_though_its_client_gave_up() {
        let users = Users::from([("slow".to_owned(), hash("x", 8))]);
        let passwords = Passwords::new().unwrap();
        let impatient = tokio::time::timeout(Duration::ZERO, passwords.check(&users, b"slow", b"x", address(1)));
        assert!(impatient.await.is_err());
        while passwords.known().right.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(passwords.check(&users, b"slow", b"x", address(1)).await, Verdict::Right);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for number in 0..1000u32 {
            let mut mark = Mark::default();
            mark[..4].copy_from_slice(&number.to_le_bytes());
            assert_eq!(known.remember(None, mark), Verdict::Wrong);
            assert_eq!(known.verdict(None, &mark), Some(Verdict::Wrong));
        }
        assert_eq!(known.wrong.len(), MOST_WRONG);
    }

    #[test]
    fn neighbours_share_their_places() {
        let check = |address: &str, expected: &str| {
            assert_eq!(neighbourhood(address.parse().unwrap()).to_string(), expected, "{address}");
        };
        check("10.0.0.1", "10.0.0.1");
        check("::ffff:10.0.0.1", "10.0.0.1");
        check("fd00:1:2:3:4:5:6:7", "fd00:1:2:3::");
    }
}
