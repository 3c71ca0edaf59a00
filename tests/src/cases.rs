//! [`cases!`](crate::cases): the one place that lists the adapters.

/// Makes a test of every case, for each adapter: `axum::name_of_the_case`, in the module where it stands.
///
/// A case is an async function without arguments that is generic over a [`Server`](crate::Server). It runs on
/// [`runtime::run`](crate::runtime::run), or on what `on` names. One that is written and not listed is dead code, which
/// the compiler says.
///
/// A new adapter is a module more in here.
#[macro_export]
macro_rules! cases {
    (on $run:path: $($case:ident,)+) => {
        mod axum {
            $(
                #[test]
                fn $case() {
                    $run(super::$case::<$crate::adapters::Axum>());
                }
            )+
        }
    };
    ($($case:ident,)+) => { $crate::cases! { on $crate::runtime::run: $($case,)+ } };
}
