//! `nexus telegram setup`: from a bot's token to a message on the phone.
//!
//! Nothing is written before the test message has arrived, so that a mistake leaves the settings as they were. The token comes
//! from the terminal, unseen, or from the secret file; never from the command line, which other users can read.

mod terminal;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nexus_telegram::{Api, Bot, Chat, TelegramError, escape};

use crate::failure::mistake;
use crate::files::{Access, write_atomically};
use crate::home::Home;
use crate::text::plain;
use crate::{dotenv, keys, secrets};

pub use terminal::Asked;

const CHAT: &str = "NEXUS_TELEGRAM_CHAT_ID";
/// Telegram answers as soon as somebody writes; asked anew as often, so that a lost connection is noticed.
const POLL: Duration = Duration::from_secs(20);
/// After the first chat others may have been written in as well.
const MORE: Duration = Duration::from_secs(1);
/// After Telegram could not be asked.
const PAUSE: Duration = Duration::from_secs(2);
/// How often somebody may mistype.
const TRIES: u32 = 3;

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// The chat, for who knows it.
    pub chat: Option<i64>,
    /// How long to wait until somebody writes to the bot.
    pub wait: Duration,
    /// Ask for a token although there is one.
    pub new_token: bool,
}

/// Finds bot and chat, sends a test message, and writes both down. `asked` is who answers, `tell` shows a line at once.
pub async fn setup(home: &Home, options: &Options, asked: &mut Asked, tell: impl Fn(&str)) -> Result<()> {
    if home.text.is_none() {
        return Err(mistake(format!("{} is missing: run ./nexus up first, which makes it", home.show(&home.env_file))));
    }
    if let Some(complaint) = home.dotenv.complaints.first() {
        return Err(mistake(format!("{}: {complaint}", home.show(&home.env_file))));
    }
    let source = home.secrets().join(secrets::TELEGRAM_SOURCE);
    if asked.is_nobody() {
        without_a_terminal(home, options, &source, &tell)?;
    }
    let (token, is_new) = token(home, options, asked, &source, &tell)?;
    let address = home.get("NEXUS_TELEGRAM_API_URL");
    let api = Api::new(address, &token);
    let me = api.me().await.map_err(explained)?;
    let name = plain(&me.username);
    tell(&format!("The token is right: it is the bot @{name}."));
    let chat = match options.chat {
        Some(id) => id,
        None => {
            tell(&format!(
                "Now write anything to it in Telegram, https://t.me/{name}, or add it to a group and write /start there. \
                 It is waited for {} s.",
                options.wait.as_secs()
            ));
            let chats = chats(&api, options.wait).await?;
            pick(&chats, asked, &tell)?
        }
    };
    let greeting = format!("✅ <b>{}</b>\nNexus can reach you here.", escape(home.get("NEXUS_HOST")));
    let sent = Bot::new(address, &token, &chat.to_string()).send(&greeting).await;
    sent.map_err(explained).context("the test message did not arrive, so nothing was changed")?;
    tell("A test message has been sent.");
    if is_new {
        let owner = secrets::is_root().then(secrets::invoking_user);
        write_atomically(&source, format!("{token}\n").as_bytes(), Access { mode: 0o600, owner })?;
        tell(&format!("The token is in {}.", home.show(&source)));
    }
    write_chat(home, chat)?;
    tell(&format!("{CHAT}={chat} is in {}. Run ./nexus up, which puts both to use.", home.show(&home.env_file)));
    Ok(())
}

/// What it needs where nobody can be asked: said before anything is asked or called.
fn without_a_terminal(home: &Home, options: &Options, source: &Path, tell: &impl Fn(&str)) -> Result<()> {
    let has_token = !options.new_token && secrets::telegram_token(&home.secrets())?.is_some();
    if !has_token {
        let old = if options.new_token { " in place of the old one" } else { "" };
        let without = if options.new_token { " without --new-token" } else { "" };
        let number = if options.chat.is_none() { "; with --chat NUMBER, if you know the chat's number" } else { "" };
        return Err(mistake(format!(
            "there is no terminal to ask for the bot's token: write the token that @BotFather gave into {}{old}, and run this again{without}{number}",
            home.show(source)
        )));
    }
    if options.chat.is_none() {
        tell(
            "There is no terminal to ask at, so no chat is chosen: those who write to the bot now are listed, and this is to be run \
             again with --chat NUMBER.",
        );
    }
    Ok(())
}

/// From the file, else from who is asked.
fn token(
    home: &Home,
    options: &Options,
    asked: &mut Asked,
    source: &Path,
    tell: &impl Fn(&str),
) -> Result<(String, bool)> {
    if !options.new_token
        && let Some(token) = secrets::telegram_token(&home.secrets())?
    {
        tell(&format!("The token in {} is used (--new-token asks for another).", home.show(source)));
        return Ok((token, false));
    }
    tell("Talk to @BotFather in Telegram, send /newbot, and copy the token that it gives.");
    for _ in 0..TRIES {
        let answer = asked.hidden("The bot's token (it is not shown): ")?.ok_or_else(|| {
            mistake(format!(
                "there is no terminal to ask for the token: write it into {} and run this again",
                home.show(source)
            ))
        })?;
        if secrets::is_telegram_token(&answer) {
            return Ok((answer, true));
        }
        tell("That is no token: it is one line such as 123456789:AAF…");
    }
    Err(mistake("no token was given, so nothing was changed".to_owned()))
}

/// The chats in which somebody has written to the bot, waiting for the first.
async fn chats(api: &Api, wait: Duration) -> Result<Vec<Chat>> {
    let deadline = Instant::now() + wait;
    let mut found = BTreeSet::new();
    let mut offset = 0;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let poll = if found.is_empty() { rest.min(POLL) } else { MORE };
        let failed = match api.updates(offset, poll).await {
            Ok(updates) => {
                let before = found.len();
                offset = updates.iter().map(|update| update.id + 1).max().unwrap_or(offset);
                found.extend(updates.into_iter().filter_map(|update| update.chat));
                if !found.is_empty() && found.len() == before {
                    return Ok(found.into_iter().collect());
                }
                None
            }
            Err(error) => match error.again_after(PAUSE) {
                Some(pause) if Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                    Some(error)
                }
                _ => return Err(explained(error)),
            },
        };
        if Instant::now() >= deadline {
            return match (found.is_empty(), failed) {
                (false, _) => Ok(found.into_iter().collect()),
                (true, Some(error)) => Err(explained(error)),
                (true, None) => Err(anyhow::anyhow!(
                    "nobody has written to the bot within {} s, so nothing was changed: write to it and run this again \
                     (--wait 10m waits longer)",
                    wait.as_secs()
                )),
            };
        }
    }
}

/// The one that is to get the messages.
fn pick(chats: &[Chat], asked: &mut Asked, tell: &impl Fn(&str)) -> Result<i64> {
    for (number, chat) in (1..).zip(chats) {
        tell(&format!("  {number}. {} ({}, {})", plain(&chat.name), plain(&chat.kind), chat.id));
    }
    for _ in 0..TRIES {
        let question = format!(
            "Which one gets the messages? [1{}] ",
            if chats.len() > 1 { format!("-{}", chats.len()) } else { String::new() }
        );
        let answer = asked.shown(&question)?.ok_or_else(|| {
            // Not even the only one is taken: anybody may have written to the bot.
            mistake("there is no terminal to ask which chat is meant: run this again with --chat NUMBER".to_owned())
        })?;
        // Enter alone takes the only one.
        let answer = if answer.is_empty() && chats.len() == 1 { "1" } else { answer.as_str() };
        let chosen = answer.parse::<usize>().ok().and_then(|number| chats.get(number.checked_sub(1)?));
        if let Some(chat) = chosen {
            return Ok(chat.id);
        }
        tell(&format!("That is none of them: a number from 1 to {}.", chats.len()));
    }
    Err(mistake("no chat was chosen, so nothing was changed".to_owned()))
}

/// With what to do about it.
fn explained(error: TelegramError) -> anyhow::Error {
    match error {
        TelegramError::Token => mistake(
            "telegram does not know this token: copy it again from @BotFather and run this with --new-token".to_owned(),
        ),
        // Both that a webhook is set and that somebody else asks.
        TelegramError::Refused { status: 409, description } => mistake(format!(
            "another program gets what is written to this bot ({description}): make a bot of its own for Nexus with @BotFather, or end \
             the other program's use of it, and run this again"
        )),
        TelegramError::Refused { status, description } => mistake(format!(
            "telegram refuses with {status}: {description}: is the bot a member of that chat, and may it write there?"
        )),
        TelegramError::Unreachable(_) => {
            anyhow::Error::new(error).context("asking Telegram (is this machine connected to the internet?)")
        }
        error => error.into(),
    }
}

fn write_chat(home: &Home, chat: i64) -> Result<()> {
    let before = home.text.as_deref().unwrap_or_default();
    let value = chat.to_string();
    let key = keys::find(CHAT).with_context(|| format!("{CHAT} is no key"))?;
    let line = dotenv::assignment(CHAT, &value).with_context(|| format!("{value} can't be written"))?;
    let text = if home.dotenv.get(CHAT).is_some() {
        dotenv::replace(before, CHAT, &line)
    } else {
        dotenv::append(before, &format!("\n{}", keys::lines(key, Some(&value)).trim_end()))
    };
    if text == before {
        return Ok(());
    }
    let owner = secrets::is_root().then(secrets::invoking_user);
    write_atomically(&home.env_file, text.as_bytes(), Access { mode: 0o600, owner })
}

#[cfg(test)]
mod tests;
