//! [`cases!`](crate::cases): the one place that lists the adapters.

/// Makes a test of every case, for each adapter and version of HTTP: `axum::name_of_the_case`, `axum_http2::name_of_…`,
/// in the module where it stands.
///
/// A case is an async function without arguments that is generic over a [`Server`](crate::Server). It runs on
/// [`runtime::run`](crate::runtime::run), or on what `on` names. One that is written and not listed is dead code, which
/// the compiler says.
///
/// Where cases cannot run, it is said in front of them, with the reason: `[not http2: "a header of HTTP/1.1"]`. There is
/// no test of them there; `scripts/behaviour-table` shows the gap, and the reason.
///
/// A new adapter is a module more in here.
#[macro_export]
macro_rules! cases {
    (on $run:path: $($case:ident,)* $([$($not:tt)*] $($other:ident,)+)*) => {
        $crate::cases! { @in axum $crate::adapters::Axum, $run: [] $($case,)* $([$($not)*] $($other,)+)* }
        $crate::cases! {
            @in axum_http2 $crate::adapters::Http2<$crate::adapters::Axum>, $run:
            [] $($case,)* $([$($not)*] $($other,)+)*
        }
        $crate::cases! { @in hyper $crate::adapters::Hyper, $run: [] $($case,)* $([$($not)*] $($other,)+)* }
        $crate::cases! {
            @in hyper_http2 $crate::adapters::Http2<$crate::adapters::Hyper>, $run:
            [] $($case,)* $([$($not)*] $($other,)+)*
        }
        $crate::cases! { @in warp $crate::adapters::Warp, $run: [] $($case,)* $([$($not)*] $($other,)+)* }
    };
    (@in $column:ident $server:ty, $run:path: $([$($not:tt)*] $($case:ident,)*)+) => {
        mod $column {
            $($crate::cases! { @group $column $server, $run: [$($not)*] $($case,)* })+
        }
    };
    (@group $column:ident $server:ty, $run:path: $not:tt $($case:ident,)*) => {
        $($crate::cases! { @case $column $not $case $server, $run })*
    };

    (@case axum [not http1: $reason:literal $($rest:tt)*] $case:ident $server:ty, $run:path) => {
        $crate::cases! { @not $reason $case }
    };
    (@case hyper [not http1: $reason:literal $($rest:tt)*] $case:ident $server:ty, $run:path) => {
        $crate::cases! { @not $reason $case }
    };
    (@case warp [not http1: $reason:literal $($rest:tt)*] $case:ident $server:ty, $run:path) => {
        $crate::cases! { @not $reason $case }
    };
    (@case warp [not warp: $reason:literal $($rest:tt)*] $case:ident $server:ty, $run:path) => {
        $crate::cases! { @not $reason $case }
    };
    (@case axum_http2 [not http2: $reason:literal $($rest:tt)*] $case:ident $server:ty, $run:path) => {
        $crate::cases! { @not $reason $case }
    };
    (@case hyper_http2 [not http2: $reason:literal $($rest:tt)*] $case:ident $server:ty, $run:path) => {
        $crate::cases! { @not $reason $case }
    };
    (
        @case $column:ident [not $other:ident: $reason:literal $(, $($rest:tt)*)?]
        $case:ident $server:ty, $run:path
    ) => {
        $crate::cases! { @case $column [$($($rest)*)?] $case $server, $run }
    };
    (@case $column:ident [] $case:ident $server:ty, $run:path) => {
        #[test]
        fn $case() {
            $run(super::$case::<$server>());
        }
    };
    (@not $reason:literal $case:ident) => {};

    ($($cases:tt)+) => { $crate::cases! { on $crate::runtime::run: $($cases)+ } };
}
