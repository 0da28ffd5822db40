//! Which question for a read index is for which read.
//!
//! A secondary asks the primary up to where it must have applied the log; one answer serves all reads that had come before
//! the question was sent, and one question is under way at a time: those that come meanwhile share the next one. So the
//! messages are as many as the round trips, however many read.

use crate::planted::Bug;

/// See the module. Questions are numbered from one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadRounds {
    /// The last question that was sent.
    asked: u64,
    /// The last one that was answered; all before it need no answer any more.
    answered: u64,
    /// Somebody waits for the question after the one that is under way.
    wanted: bool,
}

/// A read's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entered {
    /// The answer to this question, or to any later one, is for it.
    pub number: u64,
    /// The question is to be sent now.
    pub asks: bool,
}

impl ReadRounds {
    /// A read has come.
    pub fn enter(&mut self) -> Entered {
        if self.asked == self.answered {
            self.asked += 1;
            return Entered { number: self.asked, asks: true };
        }
        self.wanted = true;
        let next = if Bug::ReadJoinsQuestionUnderWay.planted() { self.asked } else { self.asked + 1 };
        Entered { number: next, asks: false }
    }

    /// The question of this number was answered. What is to be asked now, if anything.
    pub const fn answer(&mut self, number: u64) -> Option<u64> {
        if number <= self.answered || number > self.asked {
            return None;
        }
        self.answered = number;
        if self.asked == self.answered && self.wanted { Some(self.again()) } else { None }
    }

    /// Whether no answer is needed any more for a read of this number.
    pub const fn is_answered(&self, number: u64) -> bool {
        self.answered >= number
    }

    /// No answer has come for a while: the question to be sent now, for all who wait.
    pub const fn again(&mut self) -> u64 {
        self.wanted = false;
        self.asked += 1;
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_a_question_that_was_sent_after_it_had_come() {
        let mut rounds = ReadRounds::default();
        assert_eq!(rounds.enter(), Entered { number: 1, asks: true });
        for _ in 0..2 {
            assert_eq!(rounds.enter(), Entered { number: 2, asks: false }, "the first question is under way");
        }
        assert!(!rounds.is_answered(1));
        assert_eq!(rounds.answer(1), Some(2), "now the second one is sent, for both");
        assert!(rounds.is_answered(1) && !rounds.is_answered(2));
        assert_eq!(rounds.enter(), Entered { number: 3, asks: false });
        assert_eq!((rounds.answer(2), rounds.answer(3)), (Some(3), None));
        assert!(rounds.is_answered(3));
        assert_eq!(rounds.enter(), Entered { number: 4, asks: true }, "nothing is under way");
    }

    #[test]
    fn a_question_that_was_lost_is_asked_again_for_all_and_a_late_answer_counts_for_its_own() {
        let mut rounds = ReadRounds::default();
        let (first, second) = (rounds.enter(), rounds.enter());
        assert_eq!((first.number, second.number), (1, 2));
        assert_eq!(rounds.again(), 2);
        assert_eq!(rounds.answer(1), None, "the answer to the lost one, after all");
        assert!(rounds.is_answered(first.number) && !rounds.is_answered(second.number));
        assert_eq!(rounds.answer(2), None);
        assert!(rounds.is_answered(second.number));
        assert_eq!((rounds.answer(2), rounds.answer(9)), (None, None), "said before, and never asked");
        assert_eq!(rounds.enter(), Entered { number: 3, asks: true });
    }
}
