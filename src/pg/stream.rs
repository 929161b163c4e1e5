//! The byte stream to a server: TCP or a Unix socket, plain or inside TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::settings::Keepalive;

/// Where a connection goes, with names already looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(String),
}

#[derive(Debug)]
pub(super) enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Raw {
    pub fn connect(
        address: &Address,
        keepalive: &Keepalive,
        timeout: Option<Duration>,
    ) -> io::Result<Raw> {
        match address {
            Address::Tcp(addr) => {
                let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, None)?;
                socket.set_tcp_nodelay(true)?;
                if keepalive.on {
                    let mut options = TcpKeepalive::new();
                    if keepalive.idle > 0 {
                        options = options.with_time(Duration::from_secs(keepalive.idle.into()));
                    }
                    if keepalive.interval > 0 {
                        options =
                            options.with_interval(Duration::from_secs(keepalive.interval.into()));
                    }
                    if keepalive.count > 0 {
                        options = options.with_retries(keepalive.count);
                    }
                    socket.set_keepalive(true)?;
                    if (keepalive.idle, keepalive.interval, keepalive.count) != (0, 0, 0) {
                        socket.set_tcp_keepalive(&options)?;
                    }
                }
                #[cfg(target_os = "linux")]
                if keepalive.user_timeout_ms > 0 {
                    let timeout = Duration::from_millis(keepalive.user_timeout_ms.into());
                    socket.set_tcp_user_timeout(Some(timeout))?;
                }
                connect_socket(&socket, &(*addr).into(), timeout)?;
                Ok(Raw::Tcp(socket.into()))
            }
            Address::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // Linux's abstract namespace is entered with a zero byte.
                let name = match path.strip_prefix('@') {
                    Some(rest) => format!("\0{rest}"),
                    None => path.clone(),
                };
                connect_socket(&socket, &SockAddr::unix(name)?, timeout)?;
                Ok(Raw::Unix(socket.into()))
            }
        }
    }

    /// User id of the process at the other end of a Unix socket.
    pub fn peer_uid(&self) -> io::Result<u32> {
        match self {
            #[cfg(target_os = "linux")]
            Raw::Unix(socket) => Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn set_timeouts(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Raw::Tcp(s) => {
                s.set_read_timeout(timeout)?;
                s.set_write_timeout(timeout)
            }
            Raw::Unix(s) => {
                s.set_read_timeout(timeout)?;
                s.set_write_timeout(timeout)
            }
        }
    }

    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Raw::Tcp(s) => s.set_nonblocking(on),
            Raw::Unix(s) => s.set_nonblocking(on),
        }
    }
}

fn connect_socket(socket: &Socket, to: &SockAddr, timeout: Option<Duration>) -> io::Result<()> {
    match timeout {
        Some(timeout) => socket.connect_timeout(to, timeout),
        None => socket.connect(to),
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Raw::Tcp(s) => s.as_fd(),
            Raw::Unix(s) => s.as_fd(),
        }
    }
}

impl Read for Raw {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Raw::Tcp(s) => s.read(buf),
            Raw::Unix(s) => s.read(buf),
        }
    }
}

impl Write for Raw {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Raw::Tcp(s) => s.write(buf),
            Raw::Unix(s) => s.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A patient read comes back with this much ...
const PATIENT_BYTES: i32 = 64 * 1024;
/// ... or with less after this, as the sender may have no more.
const PATIENT_TIME: Duration = Duration::from_millis(1);

/// Has reads of a socket wait until so many bytes are there.
fn set_low_water(socket: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    let value: *const i32 = &raw const bytes;
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed, and the value is an int that outlives the call, as the
    // option wants it; the kernel only reads it. No library that we use knows this option.
    let result = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            value.cast(),
            len,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A connected stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Raw),
    Tls(Box<StreamOwned<ClientConnection, Raw>>),
}

impl Stream {
    fn raw(&self) -> &Raw {
        match self {
            Stream::Plain(raw) => raw,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// Lets reads and writes fail once the moment has passed; None lets them wait for ever.
    pub fn set_deadline(&self, deadline: Option<Instant>) -> io::Result<()> {
        let left = match deadline {
            None => None,
            Some(moment) => Some(
                moment
                    .checked_duration_since(Instant::now())
                    .filter(|left| !left.is_zero())
                    .ok_or(io::ErrorKind::TimedOut)?,
            ),
        };
        self.raw().set_timeouts(left)
    }

    /// Makes reads patient: they come back when much is there, or when for a moment nothing came. A server sends 8 kB at a
    /// time, and being woken for each costs both sides more than the reading. False where the stream cannot be.
    pub fn set_patient(&self, on: bool) -> io::Result<bool> {
        let Stream::Plain(Raw::Tcp(socket)) = self else {
            return Ok(false);
        };
        set_low_water(socket.as_fd(), if on { PATIENT_BYTES } else { 1 })?;
        socket.set_read_timeout(on.then_some(PATIENT_TIME))?;
        Ok(on)
    }

    /// Reads what is there now; None where nothing is. `Some(0)` is the end of the stream.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        // One cheap call in the usual case, that the server has nothing to say.
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        let mut byte = [0u8; 1];
        match rustix::net::recv(self.raw().as_fd(), &mut byte, flags) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        self.raw().set_nonblocking(true)?;
        let result = self.read(buf);
        self.raw().set_nonblocking(false)?;
        match result {
            Ok(n) => Ok(Some(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(raw) => raw.read(buf),
            Stream::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(raw) => raw.write(buf),
            Stream::Tls(tls) => tls.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_patient_read_waits_for_much_and_gets_the_rest_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let mut stream = Stream::Plain(Raw::Tcp(ours));
        assert!(stream.set_patient(true).unwrap());
        let mut buf = vec![0; 1 << 20];
        let error = stream.read(&mut buf).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "nothing came");
        theirs.write_all(&[7; 1000]).unwrap();
        let mut read = 0;
        while read < 1000 {
            match stream.read(&mut buf) {
                Ok(n) => read += n,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(read, 1000);
        // Without patience a byte is enough, however long it takes.
        assert!(!stream.set_patient(false).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                theirs.write_all(&[7]).unwrap();
            });
            assert_eq!(stream.read(&mut buf).unwrap(), 1);
        });
        drop(theirs);
        assert_eq!(stream.read(&mut buf).unwrap(), 0);
    }
}
