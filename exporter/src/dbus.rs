//! A client of D-Bus as small as this exporter needs it: method calls with text arguments over a unix socket, to a bus or to a
//! service directly, answered within a deadline (D-Bus Specification, "Message Protocol" and "Authentication Protocol").
//!
//! Ours, because the living crates bring a runtime of their own and take messages of any size. This one sends calls a window
//! at a time, so that hundreds of properties cost a few turns, ignores signals, and takes neither file descriptors nor more
//! than `MESSAGE_LIMIT` in one message.

use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A list of some thousand units has about a megabyte.
const MESSAGE_LIMIT: usize = 4 << 20;
/// dbus-daemon lets a client of the system bus wait for 128 answers at once.
const WINDOW: usize = 32;
/// Of a bus, an interface, a member or an error, by the specification.
const NAME_LIMIT: usize = 255;
/// A line of the authentication.
const LINE_LIMIT: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't connect")]
    Connect(#[source] io::Error),
    #[error("not authenticated: {0:?}")]
    Rejected(String),
    #[error("no answer in time")]
    TimedOut,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the connection was closed")]
    Closed,
    #[error("not understood: {0}")]
    Malformed(&'static str),
    /// By the name of the error that came in place of an answer.
    #[error("refused: {0}")]
    Refused(String),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A bus, which passes calls on to services by their names.
    Bus,
    /// The service itself.
    Service,
}

/// A method call whose arguments are all text.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub arguments: &'a [&'a str],
}

impl<'a> Call<'a> {
    /// Reads a property; `names` are those of its interface and itself.
    pub fn property(destination: &'a str, path: &'a str, names: &'a [&'a str; 2]) -> Call<'a> {
        Call { destination, path, interface: "org.freedesktop.DBus.Properties", member: "Get", arguments: names }
    }
}

/// What a method returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub signature: String,
    bytes: Vec<u8>,
    is_big_endian: bool,
}

impl Body {
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder { bytes: &self.bytes, at: 0, is_big_endian: self.is_big_endian }
    }

    /// The variant that `Get` returns.
    pub fn variant(&self) -> Option<Basic> {
        if self.signature != "v" {
            return None;
        }
        self.decoder().variant().ok()
    }
}

/// Those values that are not put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basic {
    Text(String),
    Unsigned(u64),
    Signed(i64),
    Bool(bool),
}

/// To one call.
pub type Answer = Result<Body, Error>;

#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
    /// What has come and not been read yet.
    buffer: Vec<u8>,
}

impl Connection {
    /// Everything over this connection must be done at the deadline.
    pub fn open(path: &Path, peer: Peer, deadline: Instant) -> Result<Connection, Error> {
        let left = left(deadline)?;
        let stream = connect(path, left).map_err(Error::Connect)?;
        let mut connection = Connection { stream, deadline, serial: 0, buffer: Vec::new() };
        connection.authenticate()?;
        if peer == Peer::Bus {
            let bus = "org.freedesktop.DBus";
            let path = "/org/freedesktop/DBus";
            let hello = Call { destination: bus, path, interface: bus, member: "Hello", arguments: &[] };
            connection.call(&[hello])?.pop().unwrap_or(Err(Error::Closed))?;
        }
        Ok(connection)
    }

    /// The kernel tells the other end who we are. We don't say so ourselves, since in a user namespace the numbers differ.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\n")?;
        let mut answer = self.line()?;
        if answer.trim_end() == "DATA" {
            self.send(b"DATA\r\n")?;
            answer = self.line()?;
        }
        if answer != "OK" && !answer.starts_with("OK ") {
            return Err(Error::Rejected(answer));
        }
        self.send(b"BEGIN\r\n")
    }

    fn line(&mut self) -> Result<String, Error> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(Error::Malformed("a line without end"));
            }
            self.receive()?;
        }
    }

    /// The answers to calls, in their order. A call that is refused costs only its own answer.
    pub fn call(&mut self, calls: &[Call<'_>]) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(calls.len());
        for window in calls.chunks(WINDOW) {
            let first = self.serial.wrapping_add(1);
            let mut out = Vec::new();
            for call in window {
                self.serial = self.serial.wrapping_add(1);
                encode(call, self.serial, &mut out)?;
            }
            self.send(&out)?;
            let mut waiting: Vec<Option<Answer>> = window.iter().map(|_| None).collect();
            let mut missing = window.len();
            while missing > 0 {
                let Some((serial, answer)) = self.message()? else { continue };
                let at = usize::try_from(serial.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let Some(empty @ None) = waiting.get_mut(at) {
                    *empty = Some(answer);
                    missing -= 1;
                }
            }
            answers.extend(waiting.into_iter().flatten());
        }
        Ok(answers)
    }

    /// The next message: to which call it is the answer, if it is one.
    fn message(&mut self) -> Result<Option<(u32, Answer)>, Error> {
        let size = loop {
            match message_size(&self.buffer)? {
                Some(size) if self.buffer.len() >= size => break size,
                _ => self.receive()?,
            }
        };
        let message = decode(&self.buffer[..size]);
        self.buffer.drain(..size);
        message
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left(self.deadline)?)).map_err(Error::Broken)?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(Error::Closed),
                Ok(count) => bytes = &bytes[count..],
                Err(error) => again_or(error)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Error> {
        let mut room = [0; 16 * 1024];
        loop {
            self.stream.set_read_timeout(Some(left(self.deadline)?)).map_err(Error::Broken)?;
            match self.stream.read(&mut room) {
                Ok(0) => return Err(Error::Closed),
                Ok(count) => {
                    self.buffer.extend_from_slice(&room[..count]);
                    return Ok(());
                }
                Err(error) => again_or(error)?,
            }
        }
    }
}

fn left(deadline: Instant) -> Result<Duration, Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Error::TimedOut) } else { Ok(left) }
}

fn again_or(error: io::Error) -> Result<(), Error> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(Error::TimedOut),
        _ => Err(Error::Broken(error)),
    }
}

/// As the standard library connects, but not for longer than given: a service that does not accept would hold us up.
fn connect(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(timeout))?;
    rustix::net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;

fn encode(call: &Call<'_>, serial: u32, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut body = Vec::new();
    for argument in call.arguments {
        push_text(&mut body, argument)?;
    }
    let mut fields = Vec::new();
    for (field, kind, text) in [
        (FIELD_PATH, b'o', call.path),
        (FIELD_INTERFACE, b's', call.interface),
        (FIELD_MEMBER, b's', call.member),
        (FIELD_DESTINATION, b's', call.destination),
    ] {
        pad(&mut fields, 8);
        fields.extend([field, 1, kind, 0]);
        push_text(&mut fields, text)?;
    }
    if !call.arguments.is_empty() {
        let count = u8::try_from(call.arguments.len()).map_err(|_| Error::Malformed("too many arguments"))?;
        pad(&mut fields, 8);
        fields.extend([FIELD_SIGNATURE, 1, b'g', 0, count]);
        fields.extend(std::iter::repeat_n(b's', count.into()));
        fields.push(0);
    }
    // Messages begin at multiples of eight of their own bytes, wherever they are in `out`.
    let mut message = vec![b'l', METHOD_CALL, 0, 1];
    message.extend(length(body.len())?);
    message.extend(serial.to_le_bytes());
    message.extend(length(fields.len())?);
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    out.extend(message);
    Ok(())
}

fn length(length: usize) -> Result<[u8; 4], Error> {
    match u32::try_from(length) {
        Ok(length) if length as usize <= MESSAGE_LIMIT => Ok(length.to_le_bytes()),
        _ => Err(Error::Malformed("a call that is too large")),
    }
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn push_text(out: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::Malformed("a text with a NUL"));
    }
    pad(out, 4);
    out.extend(length(text.len())?);
    out.extend(text.as_bytes());
    out.push(0);
    Ok(())
}

/// How many bytes the message has that begins here; `None` until enough of it is there to say.
fn message_size(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(head) = bytes.get(..FIXED_HEADER) else { return Ok(None) };
    let is_big_endian = match head[0] {
        b'l' => false,
        b'B' => true,
        _ => return Err(Error::Malformed("no byte order")),
    };
    if head[3] != 1 {
        return Err(Error::Malformed("another version of the protocol"));
    }
    let number = |at: usize| Decoder { bytes: head, at, is_big_endian }.u32().map(|number| number as usize);
    let (body, fields) = (number(4)?, number(12)?);
    // Each by itself first: where addresses have 32 bits, the sum of two such numbers may not fit.
    if body <= MESSAGE_LIMIT && fields <= MESSAGE_LIMIT {
        let size = (FIXED_HEADER + fields).next_multiple_of(8) + body;
        if size <= MESSAGE_LIMIT {
            return Ok(Some(size));
        }
    }
    Err(Error::Malformed("a message that is too large"))
}

const FIXED_HEADER: usize = 16;

/// Of a whole message.
fn decode(message: &[u8]) -> Result<Option<(u32, Answer)>, Error> {
    let is_big_endian = message.first() == Some(&b'B');
    let mut header = Decoder { bytes: message, at: 12, is_big_endian };
    let end = FIXED_HEADER + header.u32()? as usize;
    let (mut reply_serial, mut signature, mut error_name) = (None, String::new(), String::new());
    while header.at < end {
        header.align(8)?;
        let field = header.byte()?;
        match (field, header.variant()?) {
            (FIELD_REPLY_SERIAL, Basic::Unsigned(serial)) => reply_serial = u32::try_from(serial).ok(),
            (FIELD_SIGNATURE, Basic::Text(text)) => signature = text,
            (FIELD_ERROR_NAME, Basic::Text(text)) => error_name = text,
            _ => (),
        }
    }
    if header.at > end {
        return Err(Error::Malformed("a header that goes on in the body"));
    }
    header.align(8)?;
    let bytes = message.get(header.at..).unwrap_or_default().to_owned();
    let answer = match message.get(1) {
        Some(&METHOD_RETURN) => Ok(Body { signature, bytes, is_big_endian }),
        Some(&ERROR) if is_error_name(&error_name) => Err(Error::Refused(error_name)),
        Some(&ERROR) => Err(Error::Malformed("an error without a name")),
        _ => return Ok(None),
    };
    Ok(reply_serial.map(|serial| (serial, answer)))
}

/// A name is told in the log, so what is none is not taken for one.
fn is_error_name(text: &str) -> bool {
    let may_be_in_it = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    (1..=NAME_LIMIT).contains(&text.len()) && text.bytes().all(may_be_in_it)
}

/// Reads values one after the other, each aligned as its type wants.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big_endian: bool,
}

const CUT: Error = Error::Malformed("a message that is cut off");

impl<'a> Decoder<'a> {
    pub fn align(&mut self, to: usize) -> Result<(), Error> {
        self.at = self.at.next_multiple_of(to);
        if self.at > self.bytes.len() { Err(CUT) } else { Ok(()) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    /// An integer of `width` bytes.
    fn integer(&mut self, width: usize) -> Result<u64, Error> {
        self.align(width)?;
        let bytes = self.take(width)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        u32::try_from(self.integer(4)?).map_err(|_| CUT)
    }

    /// A string or an object's path.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<&'a str, Error> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<&'a str, Error> {
        let text = self.take(length)?;
        if self.byte()? != 0 {
            return Err(Error::Malformed("a text without end"));
        }
        std::str::from_utf8(text).map_err(|_| Error::Malformed("a text that is not UTF-8"))
    }

    /// Where an array of structures ends, counted as [`Decoder::is_at`] does.
    pub fn array_of_structures(&mut self) -> Result<usize, Error> {
        let length = self.u32()? as usize;
        self.align(8)?;
        let end = self.at.checked_add(length).ok_or(CUT)?;
        if end > self.bytes.len() { Err(CUT) } else { Ok(end) }
    }

    pub fn is_at(&self, end: usize) -> bool {
        self.at >= end
    }

    pub fn variant(&mut self) -> Result<Basic, Error> {
        let signed = |number: u64, bits: u32| Basic::Signed((number << (64 - bits)) as i64 >> (64 - bits));
        Ok(match self.signature()? {
            "s" | "o" => Basic::Text(self.text()?.to_owned()),
            "g" => Basic::Text(self.signature()?.to_owned()),
            "y" => Basic::Unsigned(self.integer(1)?),
            "q" => Basic::Unsigned(self.integer(2)?),
            "u" | "h" => Basic::Unsigned(self.integer(4)?),
            "t" => Basic::Unsigned(self.integer(8)?),
            "n" => signed(self.integer(2)?, 16),
            "i" => signed(self.integer(4)?, 32),
            "x" => signed(self.integer(8)?, 64),
            "b" => Basic::Bool(self.integer(4)? != 0),
            _ => return Err(Error::Malformed("a variant that is put together")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// For what must not take long, and for what would take for ever.
    const SOON: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(200);

    /// A peer that says `answers` one after the other, each when something came, and then nothing more.
    fn peer(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut room = [0; 64 * 1024];
            for answer in answers {
                if stream.read(&mut room).unwrap_or(0) == 0 || stream.write_all(&answer).is_err() {
                    return;
                }
            }
            while stream.read(&mut room).unwrap_or(0) > 0 {}
        });
        (folder, path)
    }

    /// A message as dbus-daemon 1.14 sent it: the answer to a first call, `Hello`.
    const HELLO: &[u8] = b"l\x02\x01\x01\x09\0\0\0\x01\0\0\0\x3d\0\0\0\x06\x01s\0\x04\0\0\0:1.2\0\0\0\0\x05\x01u\0\x01\0\0\0\x08\x01g\0\x01s\0\0\
        \x07\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\x04\0\0\0:1.2\0";
    /// A signal that came with it.
    const ACQUIRED: &[u8] = b"l\x04\x01\x01\x09\0\0\0\x02\0\0\0\x8d\0\0\0\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\x02\x01s\0\x14\0\0\0\
        org.freedesktop.DBus\0\0\0\0\x03\x01s\0\x0c\0\0\0NameAcquired\0\0\0\0\x06\x01s\0\x04\0\0\0:1.2\0\0\0\0\x08\x01g\0\x01s\0\0\
        \x07\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\x04\0\0\0:1.2\0";

    fn open(answers: Vec<Vec<u8>>, peer: Peer, within: Duration) -> Result<Connection, Error> {
        let (_folder, path) = self::peer(answers);
        Connection::open(&path, peer, Instant::now() + within)
    }

    #[test]
    fn both_ways_of_authentication_and_the_greeting() {
        let ok = b"OK 0123456789abcdef0123456789abcdef\r\n".to_vec();
        let greeting = || [ACQUIRED, HELLO].concat();
        open(vec![ok.clone(), greeting()], Peer::Bus, SOON).unwrap();
        open(vec![b"DATA\r\n".to_vec(), ok.clone(), greeting()], Peer::Bus, SOON).unwrap();
        open(vec![ok], Peer::Service, SOON).unwrap();
    }

    #[test]
    fn what_goes_wrong_has_a_name() {
        let ok = || b"OK 0\r\n".to_vec();
        let check = |answers: Vec<Vec<u8>>, expected: &str| {
            let error = open(answers, Peer::Bus, SOON).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        };
        check(vec![b"REJECTED EXTERNAL\r\n".to_vec()], "not authenticated: \"REJECTED EXTERNAL\"");
        check(vec![vec![b'x'; 60 * 1024]], "not understood: a line without end");
        check(vec![ok(), b"nonsense, and no message".to_vec()], "not understood: no byte order");
        check(vec![ok(), b"l\x02\x01\x02\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec()], "not understood: another version");
        check(
            vec![ok(), b"l\x02\x01\x01\0\0\0\x7f\x01\0\0\0\0\0\0\0".to_vec()],
            "not understood: a message that is too large",
        );
        let nobody = Connection::open(Path::new("/nonexistent/bus"), Peer::Bus, Instant::now() + SOON).unwrap_err();
        assert!(matches!(&nobody, Error::Connect(error) if error.kind() == io::ErrorKind::NotFound), "{nobody}");
        let long = Connection::open(Path::new(&"/x".repeat(100)), Peer::Bus, Instant::now() + SOON).unwrap_err();
        assert!(matches!(long, Error::Connect(_)), "{long}");
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let ok = b"OK 0\r\n".to_vec();
        for answers in [vec![], vec![b"OK".to_vec()], vec![ok.clone()], vec![ok, HELLO[..40].to_vec()]] {
            let begin = Instant::now();
            let error = open(answers, Peer::Bus, SHORT).unwrap_err();
            assert!(matches!(error, Error::TimedOut), "{error}");
            assert!(begin.elapsed() < SOON);
        }
    }

    #[test]
    fn who_does_not_accept_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let _listener = UnixListener::bind(&path).unwrap();
        let begin = Instant::now();
        // Until the queue is full a connection is made and then silent.
        let mut kept = Vec::new();
        for _ in 0..5000 {
            match connect(&path, Duration::from_millis(50)) {
                Ok(stream) => kept.push(stream),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(kept.len() < 5000 && begin.elapsed() < SOON);
    }

    #[test]
    fn a_call_is_as_the_specification_has_it() {
        let names = ["a.b", "Version"];
        let call = Call::property("c.d", "/x", &names);
        let mut out = Vec::new();
        encode(&call, 7, &mut out).unwrap();
        let expected = b"l\x01\0\x01\x14\0\0\0\x07\0\0\0\x60\0\0\0\x01\x01o\0\x02\0\0\0/x\0\0\0\0\0\0\x02\x01s\0\x1f\0\0\0\
            org.freedesktop.DBus.Properties\0\x03\x01s\0\x03\0\0\0Get\0\0\0\0\0\x06\x01s\0\x03\0\0\0c.d\0\0\0\0\0\x08\x01g\0\x02ss\0\
            \x03\0\0\0a.b\0\x07\0\0\0Version\0";
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert!(encode(&Call { path: "/\0", ..call }, 1, &mut out).is_err());
    }

    #[test]
    fn answers_are_read_in_either_byte_order() {
        let (serial, answer) = decode(HELLO).unwrap().unwrap();
        let body = answer.unwrap();
        assert_eq!((serial, &*body.signature, body.decoder().text().unwrap()), (1, "s", ":1.2"));
        assert_eq!(message_size(HELLO).unwrap(), Some(HELLO.len()));
        assert!(decode(ACQUIRED).unwrap().is_none());
        let big = b"B\x02\x01\x01\0\0\0\x08\0\0\0\x01\0\0\0\x0f\x05\x01u\0\0\0\0\x02\x08\x01g\0\x01v\0\0\x01u\0\0\x00\x01\x02\x03";
        let (serial, answer) = decode(big).unwrap().unwrap();
        assert_eq!((serial, message_size(big).unwrap()), (2, Some(big.len())));
        assert_eq!(answer.unwrap().variant(), Some(Basic::Unsigned(0x1_0203)));
        let error = b"l\x03\x01\x01\0\0\0\0\x01\0\0\0\x18\0\0\0\x05\x01u\0\x03\0\0\0\x04\x01s\0\x07\0\0\0a.Error\0";
        let (serial, answer) = decode(error).unwrap().unwrap();
        assert_eq!(serial, 3);
        assert!(matches!(answer, Err(Error::Refused(name)) if name == "a.Error"));
    }

    #[test]
    fn values_by_their_types() {
        let check = |bytes: &[u8], expected: Option<Basic>| {
            let found = Decoder { bytes, at: 0, is_big_endian: false }.variant().ok();
            assert_eq!(found, expected, "{}", bytes.escape_ascii());
        };
        check(b"\x01s\0\0\x02\0\0\0ab\0", Some(Basic::Text("ab".into())));
        check(b"\x01u\0\0\xff\xff\xff\xff", Some(Basic::Unsigned(0xffff_ffff)));
        check(b"\x01t\0\0\0\0\0\0\x01\0\0\0\0\0\0\x80", Some(Basic::Unsigned(1 << 63 | 1)));
        check(b"\x01i\0\0\xfe\xff\xff\xff", Some(Basic::Signed(-2)));
        check(b"\x01n\0\0\xfe\xff", Some(Basic::Signed(-2)));
        check(b"\x01x\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff", Some(Basic::Signed(-2)));
        check(b"\x01b\0\0\x01\0\0\0", Some(Basic::Bool(true)));
        check(b"\x01y\0\x07", Some(Basic::Unsigned(7)));
        check(b"\x02as\0\0\0\0\0\0", None);
        check(b"\x01s\0\0\x02\0\0\0abc", None);
        check(b"\x01s\0\0\x02\0\0\0\xff\xff\0", None);
        check(b"\x01s\0\0\xff\xff\xff\xffab\0", None);
        check(b"\x01u\0", None);
        check(b"", None);
    }

    #[test]
    fn what_breaks_the_rules_of_a_message_is_not_taken() {
        let check = |message: &[u8], expected: &str| {
            let error = match decode(message) {
                Ok(Some((3, answer))) => answer.unwrap_err(),
                other => other.unwrap_err(),
            };
            assert_eq!(error.to_string(), expected, "{}", message.escape_ascii());
        };
        // The array of fields is said to end within the last of them.
        let long = b"l\x02\x01\x01\0\0\0\0\x01\0\0\0\x0c\0\0\0\x05\x01u\0\x03\0\0\0\x08\x01g\0\x01v\0\0";
        check(long, "not understood: a header that goes on in the body");
        let error = |name: &[u8; 7]| {
            let head = b"l\x03\x01\x01\0\0\0\0\x01\0\0\0\x18\0\0\0\x05\x01u\0\x03\0\0\0\x04\x01s\0\x07\0\0\0";
            [head, name.as_slice(), b"\0"].concat()
        };
        check(&error(b"a.Error"), "refused: a.Error");
        check(&error(b"a\nError"), "not understood: an error without a name");
        check(
            b"l\x03\x01\x01\0\0\0\0\x01\0\0\0\x08\0\0\0\x05\x01u\0\x03\0\0\0",
            "not understood: an error without a name",
        );
        assert!(is_error_name(&"a".repeat(255)) && !is_error_name(&"a".repeat(256)));
    }

    #[test]
    fn header_and_body_together_are_within_the_limit() {
        let check = |body: usize, fields: usize, expected: Option<usize>| {
            let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
            let head = [b"l\x02\x01\x01".as_slice(), &number(body), &[1, 0, 0, 0], &number(fields)].concat();
            assert_eq!(message_size(&head).ok().flatten(), expected, "{body} {fields}");
        };
        check(MESSAGE_LIMIT - 24, 1, Some(MESSAGE_LIMIT));
        check(MESSAGE_LIMIT - 23, 1, None);
        check(MESSAGE_LIMIT, MESSAGE_LIMIT, None);
        check(u32::MAX as usize, u32::MAX as usize, None);
    }

    /// As the other end writes its messages.
    #[derive(Debug, Default)]
    struct Encoder {
        out: Vec<u8>,
        is_big_endian: bool,
    }

    impl Encoder {
        fn integer(&mut self, number: u64, width: usize) {
            pad(&mut self.out, width);
            match self.is_big_endian {
                true => self.out.extend(&number.to_be_bytes()[8 - width..]),
                false => self.out.extend(&number.to_le_bytes()[..width]),
            }
        }

        fn variant(&mut self, kind: &str, value: &Basic) {
            self.out.push(kind.len() as u8);
            self.out.extend(kind.bytes().chain([0]));
            match (kind, value) {
                ("g", Basic::Text(text)) => {
                    self.out.push(text.len() as u8);
                    self.out.extend(text.bytes().chain([0]));
                }
                (_, Basic::Text(text)) => {
                    self.integer(text.len() as u64, 4);
                    self.out.extend(text.bytes().chain([0]));
                }
                (_, Basic::Unsigned(number)) => self.integer(*number, width(kind)),
                (_, Basic::Signed(number)) => self.integer(*number as u64, width(kind)),
                (_, Basic::Bool(yes)) => self.integer(u64::from(*yes), 4),
            }
        }
    }

    fn width(kind: &str) -> usize {
        match kind {
            "y" => 1,
            "q" | "n" => 2,
            "u" | "h" | "i" => 4,
            _ => 8,
        }
    }

    /// The answer to call `serial` with `body`, of which is said that it is a `signature`.
    fn answer(serial: u32, signature: &str, body: &Encoder) -> Vec<u8> {
        let is_big_endian = body.is_big_endian;
        let mut fields = Encoder { is_big_endian, ..Encoder::default() };
        fields.out.push(FIELD_REPLY_SERIAL);
        fields.variant("u", &Basic::Unsigned(serial.into()));
        pad(&mut fields.out, 8);
        fields.out.push(FIELD_SIGNATURE);
        fields.variant("g", &Basic::Text(signature.to_owned()));
        let mut message =
            Encoder { is_big_endian, out: vec![if is_big_endian { b'B' } else { b'l' }, METHOD_RETURN, 1, 1] };
        for number in [body.out.len() as u64, 1, fields.out.len() as u64] {
            message.integer(number, 4);
        }
        message.out.extend(fields.out);
        pad(&mut message.out, 8);
        message.out.extend(&body.out);
        message.out
    }

    fn values() -> impl Strategy<Value = (&'static str, Basic)> {
        let text = |kind, pattern: &'static str| pattern.prop_map(move |text| (kind, Basic::Text(text)));
        let unsigned = |kind, most: u64| (0..=most).prop_map(move |number| (kind, Basic::Unsigned(number)));
        let signed = |kind, most: i64| (-most - 1..=most).prop_map(move |number| (kind, Basic::Signed(number)));
        prop_oneof![
            text("s", "\\PC{0,40}"),
            text("o", "(/[a-z_0-9]{1,9}){1,4}"),
            text("g", "[a-z()]{0,40}"),
            unsigned("y", 0xff),
            unsigned("q", 0xffff),
            unsigned("u", 0xffff_ffff),
            unsigned("h", 0xffff_ffff),
            unsigned("t", u64::MAX),
            signed("n", 0x7fff),
            signed("i", 0x7fff_ffff),
            signed("x", i64::MAX),
            any::<bool>().prop_map(|yes| ("b", Basic::Bool(yes))),
        ]
    }

    proptest! {
        #[test]
        fn what_the_other_end_writes_reads_back(serial in any::<u32>(), is_big_endian in any::<bool>(), (kind, value) in values(), cut in any::<prop::sample::Index>()) {
            let mut body = Encoder { is_big_endian, ..Encoder::default() };
            body.variant(kind, &value);
            let message = answer(serial, "v", &body);
            prop_assert_eq!(message_size(&message).unwrap(), Some(message.len()));
            let (found, read) = decode(&message).unwrap().unwrap();
            prop_assert_eq!(found, serial);
            prop_assert_eq!(read.unwrap().variant(), Some(value));
            // Cut off anywhere, it waits for the rest; a body that lacks a part is no value.
            let cut = cut.index(message.len());
            let size = message_size(&message[..cut]).unwrap();
            prop_assert!(size.is_none_or(|size| size == message.len() && cut >= FIXED_HEADER));
            if let Ok(Some((_, Ok(body)))) = decode(&message[..cut]) {
                prop_assert_eq!(body.variant(), None);
            }
        }

        #[test]
        fn a_call_reads_back(serial in any::<u32>(), words in prop::array::uniform4("\\PC{0,40}"), arguments in prop::collection::vec("\\PC{0,40}", 0..5)) {
            let given: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let [destination, path, interface, member] = words.each_ref().map(String::as_str);
            let mut out = b"what is before it".to_vec();
            let before = out.len();
            encode(&Call { destination, path, interface, member, arguments: &given }, serial, &mut out).unwrap();
            let message = &out[before..];
            prop_assert_eq!(message_size(message).unwrap(), Some(message.len()));
            prop_assert!(decode(message).unwrap().is_none());
            let mut header = Decoder { bytes: message, at: 8, is_big_endian: false };
            prop_assert_eq!(header.u32().unwrap(), serial);
            let end = FIXED_HEADER + header.u32().unwrap() as usize;
            let mut fields = std::collections::BTreeMap::new();
            while header.at < end {
                header.align(8).unwrap();
                fields.insert(header.byte().unwrap(), header.variant().unwrap());
            }
            header.align(8).unwrap();
            let text = |text: &str| Some(Basic::Text(text.to_owned()));
            let signature = (!given.is_empty()).then(|| Basic::Text("s".repeat(given.len())));
            prop_assert_eq!(fields.remove(&FIELD_DESTINATION), text(destination));
            prop_assert_eq!(fields.remove(&FIELD_PATH), text(path));
            prop_assert_eq!(fields.remove(&FIELD_INTERFACE), text(interface));
            prop_assert_eq!(fields.remove(&FIELD_MEMBER), text(member));
            prop_assert_eq!(fields.remove(&FIELD_SIGNATURE), signature);
            prop_assert!(fields.is_empty());
            for argument in &given {
                prop_assert_eq!(&header.text().unwrap(), argument);
            }
            prop_assert!(header.is_at(message.len()));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..200usize, place in 0..200usize) {
            _ = message_size(&bytes);
            _ = decode(&bytes);
            let mut decoder = Decoder { bytes: &bytes, at: 0, is_big_endian: false };
            while decoder.variant().is_ok() {}
            _ = decoder.array_of_structures();
            _ = decoder.text();
            // Near what is right.
            let mut near = [HELLO, ACQUIRED][cut % 2].to_owned();
            for (at, byte) in bytes.iter().take(3).enumerate() {
                let place = (place + at * 31) % near.len();
                near[place] = *byte;
            }
            _ = message_size(&near);
            if let Ok(Some((_, Ok(body)))) = decode(&near) {
                body.variant();
                _ = body.decoder().array_of_structures();
            }
            near.truncate(cut);
            _ = message_size(&near);
            _ = decode(&near);
        }
    }
}
