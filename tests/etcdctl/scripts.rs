//! One test for each script.

use crate::harness::run;
use crate::script::play;

macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            run(play(stringify!($name)));
        }
    )+};
}

scripts!(keys, ranges, deletes, transactions, history, leases, users);
